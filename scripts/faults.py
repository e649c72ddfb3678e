"""Faults at random moments of a training, and what must be left of it all the same."""

import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

from trainings import (
    EPOCHS,
    SHARDS,
    STOPPED,
    UNDISTURBED,
    Backend,
    Ends,
    Training,
    digest_of,
    epochs_of,
    handles_signals,
    is_completed,
    is_lost_worker,
    kill_all,
    metrics_of,
    outliving,
    send,
)

from dist_dnn.errors import RunError

LATEST_EPOCH = 36
"""From when on trainings are left alone: a fault is to find them there."""

SHORT_LINES, SHORT_OF_A_FILE = 1000, 50_000
"""Room for some lines, but not for a checkpoint."""

MOST_LINES = 30
"""So many lines of standard error, the last ones, tell of a failure."""

BALLAST = "ballast"
"""The file that takes the room on the disk."""

STARTING_SHARE = 0.2
"""So many of the faults come while a training starts."""

TAKEN_OVER_SHARE = 0.6
"""So often the driver alone is killed, where another takes over, and not what launched it."""

# One run: a training that is disturbed and gone on with


@dataclass(frozen=True)
class Undisturbed:
    """What a training without faults gives, and how long it takes.

    Attributes:
        starting: the seconds until there is a run directory.
        seconds: all of them.
        digest, metrics: what every other run must give.
    """

    starting: float
    seconds: float
    digest: str
    metrics: list[dict[str, Any]]


@dataclass(frozen=True)
class Laboratory:
    """Where trainings are disturbed, and what they are compared with.

    Attributes:
        folder: of everything.
        disk: a small file system of its own; None where none may be mounted.
        backend, workers: what they are started with.
        undisturbed: one that nothing happened to.
    """

    folder: Path
    disk: Path | None
    backend: Backend
    workers: int
    undisturbed: Undisturbed


@dataclass
class Run:
    """One experiment, disturbed and gone on with until it is finished.

    Attributes:
        kind: of the faults.
        place: the folder that has its run directory and nothing else.
        trainings: those that were started, in order.
        faults: how many came before the training had ended.
        done: what was done, for people.
        fewest_lost, most_lost: so many workers must be warned of.
        left_behind: what should be gone.
        wrong: what else is wrong.
    """

    laboratory: Laboratory
    kind: str
    number: int
    random: Random
    place: Path
    trainings: list[Training] = field(default_factory=list)
    faults: int = 0
    done: list[str] = field(default_factory=list)
    fewest_lost: int = 0
    most_lost: int = 0
    left_behind: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    is_finished: bool = False
    has_right_digest: bool = False

    @property
    def out(self) -> Path:
        return self.place / "run"

    @property
    def seconds(self) -> float:
        return self.trainings[-1].ended - self.trainings[0].began

    def start(self, workers: int, *flags: str, ends: Ends) -> Training:
        laboratory = self.laboratory
        training = Training(laboratory.folder, laboratory.backend, workers, self.out, ends, flags)
        self.trainings.append(training)
        return training

    def any_workers(self) -> int:
        return self.random.randint(0, SHARDS)

    def wait_for_a_moment(self, training: Training, share: float = 1.0) -> None:
        """Wait until a random moment, of the start or, more often, of the training.

        Args:
            training: it.
            share: of what is left of the training, in which the moment is.
        """
        times = self.laboratory.undisturbed
        if self.random.random() < STARTING_SHARE:
            training.wait(self.random.uniform(0, times.starting))
            return
        training.wait_for(training.is_past_its_start)
        done = epochs_of(self.out)
        epoch = done + share * self.random.uniform(0, max(0, LATEST_EPOCH - done))
        training.wait_for(lambda: epochs_of(self.out) >= epoch)
        training.wait(self.random.uniform(0, (times.seconds - times.starting) / EPOCHS))

    def workers_at_moments(self, training: Training, moments: int) -> Iterator[list[int]]:
        """The processes of the workers, at some random moments one after the other."""
        for _ in range(moments):
            self.wait_for_a_moment(training, 1 / moments)
            training.wait_for(lambda: training.workers != [])  # it may be in its start
            yield training.workers

    def is_warned_of(self, training: Training) -> bool:
        """Whether a worker that is lost now must be warned of; if not, that may end a training."""
        backend = self.laboratory.backend
        if backend.warns_from_the_start or training.is_past_its_start():
            return True
        training.may_end(backend.lost_at_the_start)
        return False

    def count(self, training: Training, lost: int, is_warned_of: bool) -> None:
        """Count a fault that has just made a training lose workers."""
        comes_in_time = training.has_epochs_left()
        self.faults += comes_in_time
        self.fewest_lost += lost * (comes_in_time and is_warned_of)
        self.most_lost += lost

    def note(self, training: Training, what: str) -> None:
        """Remember what was done to a training just now."""
        when = f"at {monotonic() - training.began:.2f} s"
        self.done.append(f"{what} {when if training.is_running() else 'too late'}")

    def end(self, training: Training) -> None:
        """Wait until a training has ended, which only the fault can have made it do early."""
        training.end()
        self.faults += training.status != 0

    def go_on(self) -> None:
        """Train what the fault has left."""
        if self.trainings[-1].status == 0 or is_completed(self.out):
            return  # the fault came when all was done
        flags = ["--resume"] if self.out.exists() else []
        self.start(self.any_workers(), *flags, ends=UNDISTURBED).end()

    def judge(self) -> None:
        """Compare what the run has given and left with what it should."""
        expected = self.laboratory.undisturbed
        self.is_finished = self.trainings[-1].status is not None and is_completed(self.out)
        self.has_right_digest = digest_of(self.out) == expected.digest
        metrics = metrics_of(self.out)
        lost = sum(is_lost_worker(line) for each in self.trainings for line in each.lines())
        self.wrong += [text for training in self.trainings for text in training.wrong()]
        if not self.fewest_lost <= lost <= self.most_lost:
            most = f" to {self.most_lost}" * (self.most_lost > self.fewest_lost)
            self.wrong.append(f"{lost} warnings of lost workers, not {self.fewest_lost}{most}")
        if not self.is_finished:
            self.wrong.append("it is not completed")
        if not self.has_right_digest:
            self.wrong.append("its digest is another one")
        if metrics != expected.metrics:
            epochs = [each["epoch"] for each in metrics]
            self.wrong.append(f"its metrics are others, of the epochs {epochs}")
        self.left_behind += [
            *_hidden(self.place),
            *outliving(self.laboratory.folder, self.laboratory.backend),
        ]

    def failure(self, seed: int) -> str:
        """All that helps to find out why the run went wrong."""
        lines = [line for training in self.trainings for line in training.lines()][-MOST_LINES:]
        return (
            f"run {self.number}, seed {seed}, {self.kind}: {', '.join(self.done)}: "
            f"{'; '.join(self.wrong)}; standard error: {' | '.join(lines)}"
        )


def _hidden(folder: Path) -> list[str]:
    """Files and folders that were to get another name, and should be gone."""
    return [str(path) for path in folder.rglob("*") if path.name.startswith(".")]


# The faults

CANNOT_WRITE = UNDISTURBED | {1: ("cannot be written",)}
NOT_WRITABLE = CANNOT_WRITE | {2: ("cannot be made",)}


def _kill_workers(run: Run) -> None:
    """SIGKILL to one worker, to several or to all, once or more."""
    training = run.start(run.laboratory.workers, ends=UNDISTURBED)
    killed: set[int] = set()
    for workers in run.workers_at_moments(training, run.random.randint(1, 3)):
        living = sorted(set(workers) - killed)
        if living:
            victims = run.random.sample(living, run.random.randint(1, len(living)))
            is_warned_of = run.is_warned_of(training)
            kill_all(victims)
            killed |= set(victims)
            run.note(training, f"killed {len(victims)} of {len(living)} workers")
            run.count(training, len(victims), is_warned_of)
    training.end()
    run.go_on()


def _stop_workers(run: Run) -> None:
    """SIGSTOP to a worker, once or more; in some, SIGCONT before or after the step's timeout."""
    training = run.start(run.laboratory.workers, ends=UNDISTURBED)
    stopped: set[int] = set()
    for workers in run.workers_at_moments(training, run.random.randint(1, 2)):
        victims = _to_stop(run, training, set(workers) - stopped, stopped)
        if victims and not _stop(run, training, victims):
            stopped |= set(victims)
    training.end()
    run.go_on()


def _to_stop(run: Run, training: Training, workers: set[int], stopped: set[int]) -> list[int]:
    """A worker; where another can take over, a second one or the driver, but never all."""
    if not run.laboratory.backend.takes_over:
        return [run.random.choice(sorted(workers))] if workers else []
    running = sorted(workers | ({training.driver} - stopped))
    return run.random.sample(running, min(run.random.choice((1, 1, 2)), len(running) - 1))


def _stop(run: Run, training: Training, victims: list[int]) -> bool:
    """Returns whether they go on."""
    backend, began = run.laboratory.backend, monotonic()
    driver = training.driver if backend.takes_over else None
    is_warned_of = run.is_warned_of(training)
    for victim in victims:
        send(victim, signal.SIGSTOP)
    whom = f"{len(victims)} workers" + ", the driver among them" * (driver in victims)
    run.note(training, f"stopped {whom}")
    if run.random.random() < 0.5:
        run.count(training, len(victims), is_warned_of)
        return False
    run.count(training, 0, is_warned_of)
    training.wait(run.random.uniform(0, 2 * backend.step_timeout))
    for victim in victims:
        send(victim, signal.SIGCONT)
    run.note(training, "let them go on")
    # One that is stopped when another is taken for lost may be taken for lost with it.
    may_be_lost = run.most_lost > 0 or monotonic() - began > backend.step_timeout
    run.most_lost += len(victims) * may_be_lost
    return True


def _interrupt(run: Run) -> None:
    """SIGINT or SIGTERM to the driver, in some a second time."""
    number = run.random.choice(list(STOPPED))
    ends = UNDISTURBED | run.laboratory.backend.interrupted(number)
    training = run.start(run.laboratory.workers, ends=ends)
    training.wait_for(lambda: handles_signals(training.launched.pid))
    run.wait_for_a_moment(training)
    for _ in range(run.random.choice((1, 1, 2))):
        run.note(training, f"sent {number.name}")
        training.launched.send_signal(number)
        training.wait(run.random.uniform(0, 0.05))
    run.end(training)
    run.left_behind += _hidden(run.place)
    run.go_on()


def _kill_driver(run: Run) -> None:
    """SIGKILL to the driver, once or more, each time with another number of workers."""
    backend = run.laboratory.backend
    if backend.takes_over and run.random.random() < TAKEN_OVER_SHARE:
        _kill_drivers_in_turn(run)
        return
    ends = UNDISTURBED | {-signal.SIGKILL: ("",)}
    times = run.random.randint(1, 4)
    for _ in range(times):
        training = run.start(run.any_workers(), "--resume=auto", ends=ends)
        run.wait_for_a_moment(training, 1 / times)
        run.note(training, "killed the driver")
        training.launched.kill()
        run.end(training)
        if backend.takes_over:  # ranks that drive on for a moment would share the run directory
            run.left_behind += outliving(run.laboratory.folder, backend)
            backend.sweep()
    run.start(run.any_workers(), "--resume=auto", ends=UNDISTURBED).end()


def _kill_drivers_in_turn(run: Run) -> None:
    """SIGKILL to the driver, and perhaps to those that take over from it."""
    training = run.start(run.laboratory.workers, ends=UNDISTURBED)
    times = run.random.randint(1, max(1, run.laboratory.workers - 1))
    for workers in run.workers_at_moments(training, times):
        if workers:
            is_warned_of = run.is_warned_of(training)
            send(training.driver, signal.SIGKILL)
            run.note(training, f"killed the driver of {len(workers)} others")
            run.count(training, 1, is_warned_of)
    training.end()
    run.go_on()


def _fill_disk(run: Run) -> None:
    """No room on the disk, or for longer files, until the driver has ended."""
    training = run.start(run.laboratory.workers, ends=CANNOT_WRITE)
    room = run.random.choice((SHORT_LINES, run.random.randrange(SHORT_LINES, SHORT_OF_A_FILE)))
    if run.laboratory.disk is None:
        training.wait_for(training.is_past_its_start)  # its shared memory would be limited, too
        run.wait_for_a_moment(training)
        _limit_files(training.driver, room)
        run.note(training, f"limited files to {room} bytes")
        run.end(training)
    else:
        run.wait_for_a_moment(training)
        run.note(training, f"left {room} bytes of the disk")
        _keep_full(run.laboratory.disk, room, training)
        run.end(training)
        (run.laboratory.disk / BALLAST).unlink()
    run.left_behind += _hidden(run.place)
    run.go_on()


def _limit_files(process: int, size: int) -> None:
    with suppress(ProcessLookupError):
        _, most = resource.prlimit(process, resource.RLIMIT_FSIZE)
        resource.prlimit(process, resource.RLIMIT_FSIZE, (size, most))


def _keep_full(disk: Path, room: int, training: Training) -> None:
    """Take what is free of a disk but for a little, as long as a training goes on."""
    with (disk / BALLAST).open("wb", buffering=0) as ballast:
        while training.is_running():
            free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - room
            if free > 0:
                with suppress(OSError):  # the training may just have taken it
                    os.posix_fallocate(ballast.fileno(), os.fstat(ballast.fileno()).st_size, free)
            training.wait(0.005)


def _make_read_only(run: Run) -> None:
    """Nothing can be written until the driver has ended."""
    disk = run.laboratory.disk
    assert disk is not None
    training = run.start(run.laboratory.workers, ends=NOT_WRITABLE)
    run.wait_for_a_moment(training)
    while training.is_running() and not mount("-o", "remount,ro", str(disk)):
        pass  # a file is open for writing
    run.note(training, "made the disk read-only")
    run.end(training)
    if not mount("-o", "remount,rw", str(disk)):
        raise RunError(f"the disk {disk} cannot be made writable again")
    run.go_on()


FAULTS: dict[str, Callable[[Run], None]] = {
    "kill": _kill_workers,
    "stop": _stop_workers,
    "interrupt": _interrupt,
    "driver": _kill_driver,
    "full": _fill_disk,
    "read-only": _make_read_only,
}
ON_THE_DISK = ("full", "read-only")
"""The faults of a run that has its place on the small disk, where there is one."""


def mount(*arguments: str) -> bool:
    """Mount something; whether that could be done."""
    program = shutil.which("mount")
    if program is None:
        return False
    done = subprocess.run([program, *arguments], check=False, capture_output=True)  # noqa: S603
    return done.returncode == 0
