"""The table of where a training's time went, and of the memory of its workers."""

import sys

from dist_dnn.account import MEMORY, PHASES
from dist_dnn.front.tables import print_table
from dist_dnn.profile import Spent

DRIVER = ("rounds", "update", "other")


def print_profile(spent: Spent) -> None:
    """Print milliseconds a step, and megabytes, on standard error."""
    milliseconds = 1e3 / max(1, spent["steps"])
    workers = [f"worker {number}" for number in range(len(spent["workers"]))]
    _print("ms a step", DRIVER, ["driver"], [spent["driver"]], milliseconds)
    _print("ms a step", PHASES, workers, spent["workers"], milliseconds)
    _print("memory, MB", MEMORY, workers, spent["memory"], 1e-6)


def _print(
    title: str, names: tuple[str, ...], who: list[str], values: list[dict[str, float]], scale: float
) -> None:
    rows = [(title, *names)]
    for name, each in zip(who, values, strict=True):
        rows.append((name, *(f"{scale * each.get(kind, 0):.3f}" for kind in names)))
    print_table(rows, file=sys.stderr)
