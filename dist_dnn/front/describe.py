"""The command describe: what training would do with each column of a table, and why."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dist_dnn.data.class_weights import counted, weight_classes
from dist_dnn.data.columns import assess_columns, column_of
from dist_dnn.data.dataset import Dataset
from dist_dnn.data.deciding import read_target
from dist_dnn.data.fitting import fit
from dist_dnn.data.sources import Source, open_source, printable, type_name
from dist_dnn.data.splitting import split
from dist_dnn.data.targets import Target
from dist_dnn.errors import InputError
from dist_dnn.front.api import import_launch
from dist_dnn.front.commands import reach_of, read_experiment
from dist_dnn.front.explaining import explain, some, to_json
from dist_dnn.front.tables import print_table
from dist_dnn.hyperparameters import Hyperparameters
from dist_dnn.preparation import without_columns

DATASET = "description"

HEADER = ("column", "type", "treatment", "rows of X", "missing", "in the training rows; why")

WIDEST = 20
"""Longer names and types are cut off, for people."""


def describe_command(chosen: Any, given: dict[str, Any]) -> None:
    """Print what training would do with each column.

    Args:
        chosen: the command line.
        given: the hyperparameters that flags name.
    """
    targets, values = read_experiment(chosen.config, chosen.target, given)
    hyperparameters = Hyperparameters.from_mapping(values, "the command line")
    described = import_launch().run(
        reach_of(chosen),
        lambda reach: _describe(chosen.data, targets or (), hyperparameters, reach),
    )
    if described is None:
        return  # another process has it
    if chosen.json:
        print(json.dumps(described.to_json()))
    else:
        described.print()


class Row(NamedTuple):
    """A column of the table: what `--json` has of it, and what is in it, for people."""

    described: dict[str, Any]
    content: str = ""


@dataclass(frozen=True)
class Description:
    """A table as training would have it.

    Attributes:
        rows: of the table.
        m: those to train on.
        counted: how many of these have a weight above 0, and so are in the statistics.
        n: n[0].
        columns: the features, as X has them, and then the others.
    """

    name: str
    rows: int
    m: int
    counted: int
    n: int
    columns: list[Row]

    def to_json(self) -> dict[str, Any]:
        described = {name: value for name, value in vars(self).items() if name != "columns"}
        return {**described, "columns": [each.described for each in self.columns]}

    def print(self) -> None:
        """As a table, on standard output."""
        lines = [HEADER]
        for each, content in self.columns:
            name, type_ = (_cut(each[key]) for key in ("column", "type"))
            missing = "" if each["missing"] is None else f"{each['missing']:,}"
            said = "; ".join(part for part in (content, each["why"]) if part)
            lines.append((name, type_, each["treatment"], f"{each['width']:,}", missing, said))
        print_table(lines, right=(3, 4))
        print("\nof numbers, the mean ± the deviation; --json has all there is")
        weights = f", {self.counted:,} of a weight above 0" if self.counted < self.m else ""
        print(
            f"{self.m:,} of {self.rows:,} rows to train on{weights}; X has n[0] = {self.n:,} rows"
        )


def _cut(text: str) -> str:
    text = printable(text)
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"


def _describe(
    data: str, targets: tuple[str, ...], chosen: Hyperparameters, reach: Any
) -> Description:
    """In the process that drives."""
    source = open_source(data)
    for flag, is_given in (
        ("--stratify", chosen.stratify),
        ("--class-weight", chosen.class_weight is not None),
    ):
        if is_given and not targets:
            raise InputError(f"{flag} needs the classes: say with --target COLUMN where they are")
    rows, _ = split(source, targets, chosen, chosen.validation)
    target = read_target(source, targets, chosen.task, rows) if targets else None
    lists = chosen.exclude or (), chosen.categorical or (), chosen.passthrough or ()
    schema = without_columns(source, targets, chosen)
    found = assess_columns(schema, targets, chosen.features, source.name, *lists)
    usable = tuple(column for column in found.values() if column is not None)
    features: dict[str, Row] = {}
    n, counting = 0, rows.count
    if usable:
        with reach.group(chosen.shards) as group:
            needed = () if chosen.class_weight is None else targets
            dataset = Dataset(source, rows, usable, needed, group.shards, chosen.weight)
            group.load(DATASET, dataset)
            if target is not None:
                target = weight_classes(group, DATASET, target, chosen.class_weight)
            least, most = chosen.min_frequency, chosen.max_categories
            size = counted(
                group, DATASET, dataset, target, f"the rows to train on in {source.name}"
            )
            measured = fit(group, DATASET, usable, size, least, most, target=target)
        features = {
            each.column.name: Row(to_json(each), each.content) for each in explain(measured)
        }
        n, counting = measured.features.size, size.rows
    columns = [features.get(each) or _unusable(source, each, lists) for each in found]
    if target is not None:
        columns += _targets(target)
    others = [each for each in source.schema.names if each not in (*found, *targets)]
    columns += [_left_out(each, chosen) for each in others]
    for described, _ in columns:
        described["type"] = type_name(source.schema.field(described["column"]).type)
    return Description(source.name, source.rows, rows.count, counting, n, columns)


def _row(name: str, treatment: str, why: str, content: str = "") -> Row:
    """A column that is no feature."""
    described = {"column": name, "treatment": treatment, "width": 0, "missing": None, "why": why}
    return Row(described, content)


def _unusable(source: Source, name: str, lists: tuple[Sequence[str], ...]) -> Row:
    flags = ("--exclude", "--categorical", "--passthrough")
    asked = [flag for flag, listed in zip(flags, lists, strict=True) if name in listed]
    if asked and column_of(source.schema.field(name)) is not None:
        return _row(name, "unusable", f"take it out of {asked[0]}")
    return _row(name, "unusable", "its type is no feature's: leave it out with --exclude")


def _targets(target: Target) -> list[Row]:
    if target.task == "regression":
        return [_row(name, "target", "--target", "regression") for name in target.names]
    names = target.class_names()
    content = f"{len(names)} classes: {some([printable(name) for name in names])}"
    described = {}
    if target.class_weights is not None:
        content += f"; their weights {some([f'{weight:.4g}' for weight in target.class_weights])}"
        described = {"class_weights": dict(zip(names, target.class_weights, strict=True))}
    row = _row(target.names[0], "target", "--target", content)
    return [Row(row.described | described, content)]


def _left_out(name: str, chosen: Hyperparameters) -> Row:
    if name == chosen.weight:
        return _row(name, "weight", "--weight")
    if name == chosen.validation_column:
        return _row(name, "left out", "--validation-column")
    is_excluded = name in (chosen.exclude or ())
    return _row(name, "left out", "--exclude" if is_excluded else "not in --features")
