"""Measure how long the command line takes to start: one JSON object alone on standard output."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from comparisons import Estimate

ROOT = Path(__file__).resolve().parents[1]
NUMPY = ("-c", "import numpy")
HELP = ("-m", "dist_dnn", "--help")
TRAIN = (
    *("-m", "dist_dnn", "train", "scripts/data/digits.parquet", "--target", "digit"),
    *("--hidden", "128,64", "--validation", "0.1", "--progress", "lines"),
    *("--epochs", "1", "--batch-size", "full"),
)
"""The demo's training with all rows in one batch, so that its first line follows its first step."""

LINE = "epoch 1/1"
"""How the first line begins."""

ROUNDS = 9


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description="Measure how long commands take to start, beside `import numpy`."
    )
    for flag, default in {"--rounds": ROUNDS, "--workers": 2}.items():
        parser.add_argument(flag, type=int, default=default, metavar="N", help=f"default {default}")
    chosen = parser.parse_args()
    if chosen.rounds < 1:
        parser.error("--rounds must be at least 1")
    print(json.dumps(measure(chosen.rounds, chosen.workers)))


def measure(rounds: int, workers: int) -> dict[str, Any]:
    """Start Python with NumPy, the help and a training in turns, so many times.

    Returns:
        The medians of how much later than NumPy they were in the same round, with their intervals.
    """
    later: dict[str, list[float]] = {"help": [], "first_step": []}
    with TemporaryDirectory() as folder:
        starts = Starts(Path(folder), workers)
        starts.first_step()  # compiles all modules, as an installation does
        for _ in range(rounds):
            numpy = starts.seconds(NUMPY)
            later["help"].append(starts.seconds(HELP) - numpy)
            later["first_step"].append(starts.first_step() - numpy)
    result: dict[str, Any] = {"rounds": rounds, "workers": workers}
    for name, seconds in later.items():
        estimate = Estimate.of(seconds)
        result[f"{name}_seconds_over_numpy"] = estimate.median
        result[f"{name}_interval"] = [estimate.low, estimate.high]
    return result


class Starts:
    """Starts commands and times them from outside.

    Args:
        folder: for what they write.
        workers: of trainings.
    """

    def __init__(self, folder: Path, workers: int) -> None:
        self._folder = folder
        self._workers = workers
        self._runs = 0
        self._environment = os.environ | {"PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def seconds(self, arguments: Sequence[str]) -> float:
        """From the start of Python with these arguments to its end."""
        began = perf_counter()
        with self._started(arguments) as process:
            _, errors = process.communicate()
        ended = perf_counter()
        _check(process, errors)
        return ended - began

    def first_step(self) -> float:
        """From the start of a training to the line that follows its first step."""
        self._runs += 1
        out = str(self._folder / f"run-{self._runs}")
        began = perf_counter()
        with self._started((*TRAIN, "--workers", str(self._workers), "--out", out)) as process:
            assert process.stderr is not None
            line = process.stderr.readline()
            ended = perf_counter()
            errors = line + process.stderr.read()
        _check(process, errors)
        if not line.startswith(LINE):
            sys.exit(f"the training should have begun with {LINE!r}, not with {line!r}")
        return ended - began

    def _started(self, arguments: Sequence[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(  # noqa: S603 - our own arguments, no shell
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )


def _check(process: subprocess.Popen[str], errors: str) -> None:
    """Exit with what a command said, where it failed."""
    if process.returncode != 0:
        sys.exit(errors.strip())


if __name__ == "__main__":
    main()
