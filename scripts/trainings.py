"""Trainings as a user starts them, for scripts that disturb them: their processes and results."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep, time_ns
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
EPOCHS = 40
"""How long trainings are."""

SHARDS = 4
EXPERIMENT = (
    *(str(ROOT / "scripts" / "data" / "digits.parquet"), "--target", "digit", "--hidden", "64,32"),
    *("--batch-size", "64", "--validation", "0.2"),
    *("--epochs", str(EPOCHS), "--shards", str(SHARDS)),
)
"""Trains for about two seconds."""

SURVIVAL = ("--checkpoint-every", "7", "--progress", "none")

HANGS_SECONDS = 120.0
"""A training that takes longer hangs."""

END_SECONDS = 10.0
"""How long a worker may outlive its driver."""

TEMPORARY = "temporary"
"""The folder that a training has for temporary files."""

WORKER_LOST = re.compile(r"warning: worker \d+ \(shards [\d, ]*\) .+")
DIFFERENT_EACH_TIME = ("seconds", "examples_per_second")
"""What differs in the metrics of two runs that are the same."""


# What a backend is to this script


class Backend:
    """How a backend's trainings are started, and how their workers are found.

    Attributes:
        step_timeout: after so many seconds a stopped worker is lost.
        environment: what drivers find in theirs.
    """

    step_timeout: float

    def __init__(self) -> None:
        self.environment: dict[str, str] = {}

    def command(self, workers: int) -> list[str]:
        """What starts a training with so many workers; flags are added to it."""
        raise NotImplementedError

    def workers(self, driver: int) -> list[int]:
        """The processes of a driver's workers."""
        raise NotImplementedError

    def workers_elsewhere(self) -> list[int]:
        """The processes of anyone's workers that do not work in the driver's folder."""
        return []

    def close(self) -> list[str]:
        """End what trainings shared; returns what is left of it."""
        return []


class LocalBackend(Backend):
    """Workers are children of the driver."""

    step_timeout = 2.0

    def command(self, workers: int) -> list[str]:
        return train_command("local", workers)

    def workers(self, driver: int) -> list[int]:
        with suppress(OSError):  # the driver may be gone
            children = Path(f"/proc/{driver}/task/{driver}/children").read_text().split()
            return [int(child) for child in children if "local_worker" in command_line(int(child))]
        return []


def train_command(backend: str, workers: int) -> list[str]:
    chosen = ("--backend", backend, "--workers", str(workers))
    return [*(sys.executable, "-m", "dist_dnn", "train"), *EXPERIMENT, *chosen]


# Processes


def command_line(process: int) -> str:
    """How a process was started; empty when it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ").strip()
    return ""


def processes_in(folder: Path) -> list[int]:
    """The processes that work in a folder: all that a training started, orphans too."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):  # it may be gone, or another user's
            if Path(f"/proc/{name}/cwd").readlink() == folder:
                found.append(int(name))
    return found


def all_processes(folder: Path, backend: Backend) -> list[int]:
    """The processes of a training, wherever they work."""
    return [*processes_in(folder), *backend.workers_elsewhere()]


def handles_signals(process: int) -> bool:
    """Whether a process has come as far as to handle SIGTERM."""
    with suppress(OSError):
        handled = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{process}/status").read_text())
        return handled is not None and bool(int(handled[1], 16) >> (signal.SIGTERM - 1) & 1)
    return False


def send(process: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)


def kill_all(processes: list[int]) -> None:
    for process in processes:
        send(process, signal.SIGKILL)


def outliving(folder: Path, backend: Backend) -> list[str]:
    """The processes that still live some time after their driver; they are killed."""
    end = monotonic() + END_SECONDS
    while (processes := all_processes(folder, backend)) and monotonic() < end:
        sleep(0.01)
    described = [f"process {process}: {command_line(process)}" for process in processes]
    kill_all(processes)
    return described


# One training, as a user starts it

UNDISTURBED = {0: ""}


class Training:
    """A driver's process, from its start to its end.

    Args:
        folder: where it works, by which all that it starts is found again.
        backend, workers: what it is started with.
        out: its run directory.
        ends: the exit statuses that are right, each with what the one line of error then says;
            empty where there must not be one.
        flags: more of its command line.
    """

    def __init__(
        self,
        folder: Path,
        backend: Backend,
        workers: int,
        out: Path,
        ends: dict[int, str],
        flags: Sequence[str] = (),
    ) -> None:
        self.out = out
        self.status: int | None = None
        self._folder = folder
        self._backend = backend
        timeout = ("--step-timeout", str(backend.step_timeout))
        self._command = [
            *(*backend.command(workers), *flags),
            *(*SURVIVAL, *timeout, "--out", str(out)),
        ]
        self._ends = ends
        descriptor, self._errors = tempfile.mkstemp(dir=folder, prefix="errors-")
        with os.fdopen(descriptor, "wb") as errors:
            self._began_ns, self.began = time_ns(), monotonic()
            self.driver = _start(folder, self._command, backend.environment, errors)
        self.ended = self.began

    def is_running(self) -> bool:
        return self.driver.poll() is None and monotonic() - self.began < HANGS_SECONDS

    def is_past_its_start(self) -> bool:
        """Whether it trains: it has written to its run directory."""
        with suppress(OSError):
            return (self.out / "status.json").stat().st_mtime_ns > self._began_ns
        return False

    def wait(self, seconds: float) -> None:
        """Let it go on for so long, or until it ends."""
        with suppress(subprocess.TimeoutExpired):
            self.driver.wait(seconds)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Let it go on until something is so, or until it ends."""
        while self.is_running() and not condition():
            sleep(0.005)

    def end(self) -> None:
        """Wait until it has ended; end it when it hangs."""
        self.wait(max(0.0, self.began + HANGS_SECONDS - monotonic()))
        self.status = self.driver.poll()
        self.ended = monotonic()
        if self.status is None:
            kill_all(all_processes(self._folder, self._backend))
            self.driver.wait()

    def has_epochs_left(self) -> bool:
        """Whether more than the epoch in work is left; the file of metrics may be one behind."""
        return epochs_of(self.out) < EPOCHS - 2

    def lines(self) -> list[str]:
        """What it wrote on standard error."""
        return Path(self._errors).read_text(encoding="utf-8", errors="replace").splitlines()

    def wrong(self) -> list[str]:
        """What is wrong with how it ended, apart from the warnings of lost workers."""
        lines = [line for line in self.lines() if not is_lost_worker(line)]
        if self.status is None:
            return [f"hung: {' '.join(self._command)}"]
        if self.status not in self._ends:
            return [f"exit status {self.status}, not {' or '.join(map(str, self._ends))}"]
        says = self._ends[self.status]
        are_right = lines == [] if says == "" else _is_error(lines, says)
        return [] if are_right else [f"exit status {self.status} with other lines than should be"]


def _start(
    folder: Path, command: list[str], environment: dict[str, str], errors: Any
) -> subprocess.Popen[bytes]:
    own = {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder / TEMPORARY)}
    return subprocess.Popen(  # noqa: S603 - our own module, no shell
        command,
        cwd=folder,
        env=os.environ | own | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
    )


def is_lost_worker(line: str) -> bool:
    return WORKER_LOST.fullmatch(line) is not None


def _is_error(lines: list[str], says: str) -> bool:
    return len(lines) == 1 and lines[0].startswith("error: ") and says in lines[0]


def epochs_of(out: Path) -> int:
    """How many epochs the metrics are of."""
    with suppress(OSError):
        return (out / "metrics.jsonl").read_bytes().count(b"\n")
    return 0


def metrics_of(out: Path) -> list[dict[str, Any]]:
    """The epochs that a run directory has, without what differs each time."""
    with suppress(OSError, ValueError):
        text = (out / "metrics.jsonl").read_text(encoding="utf-8")
        whole = [json.loads(line) for line in text.split("\n")[:-1]]
        return [
            {key: each[key] for key in each if key not in DIFFERENT_EACH_TIME} for each in whole
        ]
    return []


def is_completed(out: Path) -> bool:
    with suppress(OSError, ValueError, KeyError):
        state = json.loads((out / "status.json").read_text(encoding="utf-8"))["state"]
        return bool(state == "completed")
    return False


def digest_of(out: Path) -> str:
    """What the command line says of a run; empty where it does not."""
    with suppress(subprocess.TimeoutExpired):
        done = subprocess.run(  # noqa: S603 - our own module, no shell
            [sys.executable, "-m", "dist_dnn", "digest", str(out)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=HANGS_SECONDS,
        )
        return done.stdout.strip()
    return ""
