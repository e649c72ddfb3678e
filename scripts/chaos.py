"""Disturb trainings at random moments, and see that nothing is lost: one JSON object at the end."""

import argparse
import json
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from time import monotonic
from types import FrameType
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults import FAULTS, ON_THE_DISK, Laboratory, Run, Undisturbed, mount
from mpi_trainings import MpiBackend
from ray_trainings import RayBackend
from trainings import (
    EPOCHS,
    SHARDS,
    STOPPED,
    TEMPORARY,
    UNDISTURBED,
    Backend,
    LocalBackend,
    Training,
    all_processes,
    digest_of,
    kill_all,
    metrics_of,
    outliving,
)

from dist_dnn.errors import InputError, RunError

BACKENDS: dict[str, Callable[[], Backend]] = {
    "local": LocalBackend,
    "ray": RayBackend,
    "mpi": MpiBackend,
}

DISK_BYTES = 2**23
"""The size of the disk that becomes full; a run fits in easily."""

# The laboratory


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path | None]:
    """A file system of its own on a new folder; None where this process may not mount one."""
    folder.mkdir()
    if not mount("-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)):
        yield None
        return
    try:
        yield folder
    finally:
        program = shutil.which("umount") or "umount"
        subprocess.run([program, "--lazy", str(folder)], check=True)  # noqa: S603


@contextmanager
def _laboratory(backend: Backend, workers: int) -> Iterator[Laboratory]:
    """A place for everything, of which nothing is left."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name).resolve()
        backend.temporary = folder / TEMPORARY
        backend.temporary.mkdir()
        with _small_disk(folder / "disk") as disk:
            try:
                _train_undisturbed(folder, backend, 0)  # the first one is slower
                undisturbed = _train_undisturbed(folder, backend, workers)
                yield Laboratory(folder, disk, backend, workers, undisturbed)
            finally:
                _ignore_signals()
                kill_all(all_processes(folder, backend))
                outliving(folder, backend)


def _train_undisturbed(folder: Path, backend: Backend, workers: int) -> Undisturbed:
    """Train without faults, and take the time.

    Raises:
        RunError: that does not go well.
    """
    out = folder / f"undisturbed-{workers}"
    training = Training(folder, backend, workers, out, UNDISTURBED)
    training.wait_for(training.is_past_its_start)
    starting = monotonic() - training.began
    training.end()
    metrics, lines = metrics_of(out), backend.own_lines(training.lines())
    if [each["epoch"] for each in metrics] != list(range(1, EPOCHS + 1)) or lines:
        errors = " | ".join(lines)
        raise RunError(f"without faults: exit status {training.status}, standard error: {errors}")
    return Undisturbed(starting, training.ended - training.began, digest_of(out), metrics)


# All runs


def main() -> int:
    """Do what the command line asks for; returns the exit status."""
    for number in STOPPED:
        signal.signal(number, _end)
    try:
        chosen = _parser().parse_args()
        report = disturb(chosen)
    except (InputError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    print(json.dumps(report))
    return 1 if report["failures"] or report["left_behind"] else 0


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """End this process by a signal, but clean up before."""
    _ignore_signals()
    print(f"error: {STOPPED[signal.Signals(number)]}", file=sys.stderr)
    sys.exit(128 + number)


def _ignore_signals() -> None:
    for each in STOPPED:
        signal.signal(each, signal.SIG_IGN)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see --help)")


def _parser() -> _Parser:
    parser = _Parser(
        description="Train again and again while workers and drivers are killed and stopped and "
        "the disk fails, and compare each result with that of an undisturbed training.",
        epilog="example: python scripts/chaos.py --backend local --runs 30 --seed 1 "
        "--faults kill,driver",
    )
    parser.add_argument("--runs", type=_above_zero, default=30, metavar="N", help="default 30")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="K", help="of what is done, and when (default 0)"
    )
    parser.add_argument("--backend", choices=BACKENDS, default="local", help="default %(default)s")
    parser.add_argument(
        "--workers",
        type=int,
        choices=range(1, SHARDS + 1),
        default=3,
        metavar="W",
        help=f"of trainings that are not resumed, from 1 to {SHARDS} (default %(default)s)",
    )
    parser.add_argument(
        "--faults",
        type=_kinds,
        default=tuple(FAULTS),
        metavar="A,B,…",
        help=f"which, in turns (default {','.join(FAULTS)})",
    )
    return parser


def _above_zero(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, not {text!r}")
    return number


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(text.split(","))
    for kind in kinds:
        if kind not in FAULTS:
            raise argparse.ArgumentTypeError(f"must be of {', '.join(FAULTS)}, not {kind!r}")
    return kinds


def disturb(chosen: argparse.Namespace) -> dict[str, Any]:
    """Do all the runs, and sum up.

    Raises:
        InputError: they cannot be done on this machine.
        RunError: training fails without faults.
    """
    if not Path("/proc/self/task").exists():
        raise InputError("processes are found in /proc: use Linux")
    shared_before = _shared_memory()
    backend = BACKENDS[chosen.backend]()
    try:
        report = _disturb(chosen, backend)
    finally:
        left_behind = backend.close()
    left_behind += sorted(_shared_memory() - shared_before)
    report["left_behind"] += left_behind
    return report


def _disturb(chosen: argparse.Namespace, backend: Backend) -> dict[str, Any]:
    with _laboratory(backend, chosen.workers) as laboratory:
        kinds = _possible(chosen.faults, laboratory)
        runs = []
        for number in range(1, chosen.runs + 1):
            kind = kinds[(number - 1) % len(kinds)]
            runs.append(_disturbed_run(laboratory, kind, number, chosen.seed))
            _report(runs[-1], chosen.runs)
        temporary = [str(path) for path in (laboratory.folder / TEMPORARY).iterdir()]
        report = _summary(runs, chosen.seed, laboratory.undisturbed.seconds)
    report["left_behind"] += temporary
    return report


def _possible(kinds: tuple[str, ...], laboratory: Laboratory) -> list[str]:
    """The kinds of faults that can be done here; what cannot is said."""
    if laboratory.disk is not None:
        return list(kinds)
    possible = [kind for kind in kinds if kind != "read-only"]
    if "full" in kinds:
        print("note: no disk may be mounted here: 'full' limits files instead", file=sys.stderr)
    if "read-only" in kinds:
        print("note: no disk may be mounted here: 'read-only' is left out", file=sys.stderr)
    if not possible:
        raise InputError("none of the faults is possible here: run as root, or choose others")
    return possible


def _disturbed_run(laboratory: Laboratory, kind: str, number: int, seed: int) -> Run:
    disk = laboratory.disk if kind in ON_THE_DISK else None
    place = (disk or laboratory.folder) / f"run-{number}"
    place.mkdir()
    random = Random(f"{seed} {number}")  # noqa: S311 - nothing secret
    run = Run(laboratory, kind, number, random, place)
    FAULTS[kind](run)
    run.judge()
    shutil.rmtree(place)
    return run


def _shared_memory() -> set[str]:
    """What has a name in shared memory, but for Open MPI's: others', ours are not there."""
    names = {str(path) for path in Path("/dev/shm").glob("*")}  # noqa: S108 - only looked at
    return {name for name in names if not Path(name).name.startswith("sm_segment.")}


def _report(run: Run, runs: int) -> None:
    """One line for people."""
    how = "; ".join(run.wrong + run.left_behind) or "right"
    landed = "" if run.faults else " (no fault landed)"
    print(
        f"run {run.number}/{runs}  {run.kind:<9}  {', '.join(run.done)}{landed}: {how}, "
        f"after {run.seconds:.1f} s",
        file=sys.stderr,
        flush=True,
    )


def _summary(runs: list[Run], seed: int, undisturbed_seconds: float) -> dict[str, Any]:
    """The result, which is printed as a table, too."""
    faults = {kind: sum(run.faults for run in runs if run.kind == kind) for kind in FAULTS}
    lost: dict[str, float] = {}
    for kind in FAULTS:
        each = [
            (run.seconds - undisturbed_seconds) / run.faults
            for run in runs
            if run.kind == kind and run.faults
        ]
        if each:
            lost[kind] = round(statistics.median(each), 3)
            print(
                f"{kind:<9}  {faults[kind]:>4} faults  {lost[kind]:>7.2f} s lost for each",
                file=sys.stderr,
            )
    return {
        "runs": len(runs),
        "finished": sum(run.is_finished for run in runs),
        "right_digest": sum(run.has_right_digest for run in runs),
        "faults": faults,
        "no_fault_landed": sum(run.faults == 0 for run in runs),
        "seconds_undisturbed": round(undisturbed_seconds, 3),
        "seconds_lost_per_fault": lost,
        "left_behind": [f"run {run.number}: {each}" for run in runs for each in run.left_behind],
        "failures": [run.failure(seed) for run in runs if run.wrong],
    }


if __name__ == "__main__":
    sys.exit(main())
