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
from typing import Any, ClassVar

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

LOST = re.compile(
    r"warning: (worker|rank) \d+ \(shards [\d, ]*\) .+"
    r"|warning: rank \d+ on .+, which drove, is gone: rank \d+ on .+ drives on from the last .+"
    r"|warning: rank \d+ on .+ is gone, too"
)
STOPPED = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
DIFFERENT_EACH_TIME = ("seconds", "examples_per_second")
"""What differs in the metrics of two runs that are the same."""


Ends = dict[int, tuple[str, ...]]
"""The exit statuses that are right, and what the one line of error may then say; empty for none."""

# What a backend is to this script


class Backend:
    """How a backend's trainings are started, and how their workers are found.

    Attributes:
        step_timeout: after so many seconds a stopped worker is lost.
        takes_over: a worker drives on when the driver is lost.
        warns_from_the_start: of every lost worker; else once there is a run directory.
        lost_at_the_start: how a training may end that loses a worker before that.
        environment: what drivers find in theirs.
        temporary: where they have temporary files.
    """

    step_timeout: float
    takes_over = False
    warns_from_the_start = True
    lost_at_the_start: ClassVar[Ends] = {}
    temporary: Path

    def __init__(self) -> None:
        self.environment: dict[str, str] = {}

    def command(self, workers: int) -> list[str]:
        """What starts a training with so many workers; flags are added to it."""
        raise NotImplementedError

    def driver(self, launched: int) -> int:
        """The process that drives a training, which another may have launched."""
        return launched

    def workers(self, launched: int) -> list[int]:
        """The processes of a training's workers, which do not drive."""
        raise NotImplementedError

    def workers_elsewhere(self) -> list[int]:
        """The processes of anyone's workers that do not work in the driver's folder."""
        return []

    def interrupted(self, number: signal.Signals) -> Ends:
        """How a training ends that gets a signal."""
        return {128 + number: (STOPPED[number],)}

    def own_lines(self, lines: list[str]) -> list[str]:
        """Lines of standard error without those of other programs and libraries."""
        return lines

    def sweep(self) -> None:
        """Remove what other programs leave in the temporary folder when they are killed."""

    def close(self) -> list[str]:
        """End what trainings shared; returns what is left of it."""
        return []


class LocalBackend(Backend):
    """Workers are children of the driver."""

    step_timeout = 2.0

    def command(self, workers: int) -> list[str]:
        return train_command("local", workers)

    def workers(self, launched: int) -> list[int]:
        return [child for child in children(launched) if "local_worker" in command_line(child)]


def train_command(backend: str, workers: int) -> list[str]:
    chosen = ("--backend", backend, "--workers", str(workers))
    return [*python_command(), *EXPERIMENT, *chosen]


def python_command() -> list[str]:
    return [sys.executable, "-m", "dist_dnn", "train"]


# Processes


def command_line(process: int) -> str:
    """How a process was started; empty when it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ").strip()
    return ""


def children(process: int) -> list[int]:
    """The processes that a process has started and that live; none when it is gone."""
    with suppress(OSError):
        return list(map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split()))
    return []


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

UNDISTURBED: Ends = {0: ("",)}


class Training:
    """The process that a user starts, from its start to its end.

    Args:
        folder: where it works, by which all that it starts is found again.
        backend, workers: what it is started with.
        out: its run directory.
        ends: those that are right.
        flags: more of its command line.
    """

    def __init__(
        self,
        folder: Path,
        backend: Backend,
        workers: int,
        out: Path,
        ends: Ends,
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
        self._ends = dict(ends)
        descriptor, self._errors = tempfile.mkstemp(dir=folder, prefix="errors-")
        with os.fdopen(descriptor, "wb") as errors:
            self._began_ns, self.began = time_ns(), monotonic()
            self.launched = _start(folder, self._command, backend.environment, errors)
        self.ended = self.began

    @property
    def driver(self) -> int:
        """The process that drives."""
        return self._backend.driver(self.launched.pid)

    @property
    def workers(self) -> list[int]:
        """The processes of those that do not."""
        return self._backend.workers(self.launched.pid)

    def may_end(self, ends: Ends) -> None:
        """Some more ways to end are right."""
        self._ends |= ends

    def is_running(self) -> bool:
        return self.launched.poll() is None and monotonic() - self.began < HANGS_SECONDS

    def is_past_its_start(self) -> bool:
        """Whether it trains: it has written to its run directory."""
        with suppress(OSError):
            return (self.out / "status.json").stat().st_mtime_ns > self._began_ns
        return False

    def wait(self, seconds: float) -> None:
        """Let it go on for so long, or until it ends."""
        with suppress(subprocess.TimeoutExpired):
            self.launched.wait(seconds)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Let it go on until something is so, or until it ends."""
        while self.is_running() and not condition():
            sleep(0.005)

    def end(self) -> None:
        """Wait until it has ended; end it when it hangs."""
        self.wait(max(0.0, self.began + HANGS_SECONDS - monotonic()))
        self.status = self.launched.poll()
        self.ended = monotonic()
        if self.status is None:
            kill_all(all_processes(self._folder, self._backend))
            self.launched.wait()

    def has_epochs_left(self) -> bool:
        """Whether more than the epoch in work is left; the file of metrics may be one behind."""
        return epochs_of(self.out) < EPOCHS - 2

    def lines(self) -> list[str]:
        """What it wrote on standard error."""
        return Path(self._errors).read_text(encoding="utf-8", errors="replace").splitlines()

    def wrong(self) -> list[str]:
        """What is wrong with how it ended, apart from the warnings of lost workers."""
        own = self._backend.own_lines(self.lines())
        lines = [line for line in own if not is_lost_worker(line)]
        if self.status is None:
            return [f"hung: {' '.join(self._command)}"]
        if self.status not in self._ends:
            return [f"exit status {self.status}, not {' or '.join(map(str, self._ends))}"]
        are_right = any(_is_end(lines, says) for says in self._ends[self.status])
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
    return LOST.fullmatch(line) is not None


def _is_end(lines: list[str], says: str) -> bool:
    if says == "":
        return lines == []
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
