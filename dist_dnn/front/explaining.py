"""What becomes of each feature, and why, in words."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from dist_dnn.data.columns import Column
from dist_dnn.data.fitting import Fit
from dist_dnn.data.sources import printable
from dist_dnn.data.vocabularies import Found

MOST_REMARKS = 20
"""Of more columns, `describe` has the rest."""

SHOWN_VALUES = 3
"""So many categories, or numbers of a list, are named."""

SECONDS = {
    "date": "seconds since the epoch",
    "timestamp": "seconds since the epoch",
    "time": "seconds since midnight",
    "duration": "seconds",
}
"""What values of these kinds become."""


class Explained(NamedTuple):
    """A feature as training has it.

    Attributes:
        width: how many rows of X it fills.
        missing: in how many training rows something of it is missing; of a list, of the number
            that is missing most.
        mean, deviation: of each of its numbers.
        found: its categories, if it has such.
        indicators: how many of its numbers have one.
    """

    column: Column
    width: int
    m: int
    missing: int
    mean: list[float]
    deviation: list[float]
    found: Found | None
    indicators: int

    @property
    def treatment(self) -> str:
        """In a word."""
        return "one-hot" if self.found else self.column.treatment

    @property
    def content(self) -> str:
        """Mean and deviation, or the categories, as far as there is room."""
        if self.found is not None:
            return _categories(self.found)
        if self.missing == self.m:
            return "nothing"
        if self.column.width == 1:
            return f"{self.mean[0]:.4g} ± {self.deviation[0]:.4g}"
        return f"{self.column.width} numbers, means {some([f'{x:.4g}' for x in self.mean])}"

    @property
    def why(self) -> str:
        """What decided on it; empty where numbers are standardised as they are."""
        kind, reasons = self.column.kind, []
        if self.found is not None:
            return kind if kind in ("text", "boolean") else "--categorical, or a dictionary"
        if self.treatment == "passthrough":
            reasons.append("--passthrough")
        if self.missing == self.m:
            return "; ".join([*reasons, "all is missing: fills X with 0"])
        if kind in SECONDS:
            reasons.append(f"{kind}s are {SECONDS[kind]}")
        elif not any(self.deviation) and self.treatment == "standardise":
            reasons.append("constant: fills X with 0")
        if self.missing:
            reasons.append(f"missing is the mean, {_indicators(self.indicators)}")
        return "; ".join(reasons)

    @property
    def is_plain(self) -> bool:
        """Whether it is numbers, all there."""
        return self.found is None and not self.missing and self.column.kind not in SECONDS


def explain(fit: Fit) -> Iterator[Explained]:
    """All features, in their order."""
    found = iter(fit.found)
    standardisation, number = fit.features.standardisation, 0
    for column, width in zip(fit.features.columns, fit.features.layout.widths, strict=True):
        if column.is_category:
            each = next(found)
            yield Explained(column, width, fit.m, each.missing, [], [], each, 0)
            continue
        own = slice(number, number + column.width)
        yield Explained(
            column,
            width,
            fit.m,
            int(fit.missing[own].max()),
            standardisation.mean[own].tolist(),
            standardisation.deviation[own].tolist(),
            None,
            width - column.width,
        )
        number += column.width


def remarks(fit: Fit) -> list[str]:
    """A line for each feature that is not just numbers, all there."""
    lines = [
        f"column {each.column.name!r}: {_remark(each)}"
        for each in explain(fit)
        if not each.is_plain
    ]
    if len(lines) <= MOST_REMARKS:
        return lines
    rest = len(lines) - MOST_REMARKS
    return [*lines[:MOST_REMARKS], f"and {rest} more columns: `dist-dnn describe` shows all"]


def _remark(each: Explained) -> str:
    if each.found is None:
        missing = [f"missing in {each.missing:,} of {each.m:,} rows"] if each.missing else []
        return "; ".join([*missing, each.why])
    return each.content


def _indicators(count: int) -> str:
    return f"{count} indicator{'' if count == 1 else 's'}"


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _categories(found: Found) -> str:
    """How many there are, the first of them, and what else is one."""
    vocabulary = found.vocabulary
    count = len(vocabulary.values)
    named = [some([printable(value) or "''" for value in vocabulary.values])] if count else []
    named += [f"null ({_rows(found.missing)})"] if vocabulary.has_null else []
    named += [f"other ({_rows(found.others)})"] if vocabulary.has_other else []
    return f"{count} categor{'y' if count == 1 else 'ies'}: {', '.join(named)}"


def some(texts: list[str]) -> str:
    """The first few, short enough to be shown."""
    shown = [text if len(text) <= 20 else f"{text[:19]}…" for text in texts[:SHOWN_VALUES]]
    return ", ".join([*shown, *(["…"] if len(texts) > SHOWN_VALUES else [])])


def to_json(each: Explained) -> dict[str, Any]:
    """A feature as `describe --json` has it, without its type."""
    described: dict[str, Any] = {
        "column": each.column.name,
        "treatment": each.treatment,
        "width": each.width,
        "missing": each.missing,
        "why": each.why,
    }
    if each.found is None:
        is_list = each.column.width > 1
        described["mean"] = each.mean if is_list else each.mean[0]
        described["deviation"] = each.deviation if is_list else each.deviation[0]
    else:
        described["categories"] = list(each.found.vocabulary.values)
        described["counts"] = list(each.found.counts)
        described["others"] = each.found.others
    return described
