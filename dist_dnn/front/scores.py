"""Scores for people: a line, and a table of the classes, with the confusion matrix, or targets."""

import sys
from collections.abc import Sequence
from itertools import islice

from dist_dnn.data.sources import printable
from dist_dnn.evaluation import BY_TARGET, Scores
from dist_dnn.front.tables import print_table

MOST_ROWS, MOST_COLUMNS = 40, 15
"""Of more classes or targets not all are shown, and of more no confusion matrix, for people."""

LONGEST_NAME = 24

MANY_EXAMPLES, TOO_MANY_DIGITS = 1e3, 1e9
"""Sums of weights from the one on are whole, and from the other on powers of ten, for people."""


def print_scores(scores: Scores) -> None:
    """Print scores for people, on standard error."""
    if "precision" in scores:
        _print_classes(scores)
    if BY_TARGET in scores:
        _print_targets(scores[BY_TARGET])
    print(summary(scores), file=sys.stderr)


def summary(scores: Scores) -> str:
    """What is not said class by class, on one line; of several targets the means over them."""
    parts = [f"{scores['m']:,} rows"]
    if "weight" in scores:
        parts.append(f"weight {_count(scores['weight'])}")
    for name in ("loss", "accuracy", "log_loss", "auc", "rmse", "mae", "r2"):
        if name in scores:
            parts.append(f"{name.replace('_', '-')} {_text(scores[name])}")
    return "  ".join(parts)


def _print_targets(by_target: dict[str, Scores]) -> None:
    rows: list[tuple[str, ...]] = [("target", "rmse", "mae", "r2")]
    for name, scores in islice(by_target.items(), MOST_ROWS):
        errors = (f"{scores[error]:.5g}" for error in ("rmse", "mae"))  # each in its own unit
        rows.append((_shortened(name), *errors, _text(scores["r2"])))
    print_table(rows, right=range(1, 4), file=sys.stderr)
    if len(by_target) > MOST_ROWS:
        print(f"… and {len(by_target) - MOST_ROWS:,} more targets", file=sys.stderr)
    print(file=sys.stderr)


def _print_classes(scores: Scores) -> None:
    names, matrix = list(scores["recall"]), scores["confusion_matrix"]
    shown = range(min(len(names), MOST_ROWS))
    counted = "weight" if "weight" in scores else "examples"
    rows: list[tuple[str, ...]] = [("class", "precision", "recall", "f1", counted)]
    for c in shown:
        each = (_text(scores[score][names[c]]) for score in ("precision", "recall", "f1"))
        count = "" if matrix is None else _count(sum(matrix[c]))
        rows.append((_shortened(names[c]), *each, count))
    print_table(rows, right=range(1, 5), file=sys.stderr)
    if len(names) > len(shown):
        print(f"… and {len(names) - len(shown):,} more classes", file=sys.stderr)
    if matrix is not None and len(names) <= MOST_COLUMNS:
        print("\nrows: the true class; columns: what was predicted", file=sys.stderr)
        _print_matrix(names, matrix)
    print(file=sys.stderr)


def _print_matrix(names: Sequence[str], matrix: Sequence[Sequence[float]]) -> None:
    rows = [("", *(_shortened(name, most=5) for name in names))]
    for name, counts in zip(names, matrix, strict=True):
        rows.append((_shortened(name), *(_count(each, "") for each in counts)))
    print_table(rows, right=range(1, 1 + len(names)), file=sys.stderr)


def _shortened(name: str, most: int = LONGEST_NAME) -> str:
    """A name on one line, of so many characters at most."""
    name = printable(name)
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _count(value: float, comma: str = ",") -> str:
    """A number of examples, or the sum of their weights, whole where it has many digits."""
    is_long = isinstance(value, int) or MANY_EXAMPLES <= value < TOO_MANY_DIGITS
    return f"{value:{comma}.0f}" if is_long else f"{value:.4g}"


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
