"""The command watch: the progress of a run that goes on elsewhere, from its files alone."""

from contextlib import suppress
from time import monotonic, sleep
from typing import Any

from dist_dnn.data.sources import location_name
from dist_dnn.errors import InputError, RunError
from dist_dnn.front.progress import make_progress
from dist_dnn.liveness import is_dead
from dist_dnn.looking import (
    Broken,
    Epochs,
    age_of,
    is_count,
    is_number,
    is_silent,
    read_epochs,
    read_experiment,
    read_status,
)
from dist_dnn.notices import say, warn
from dist_dnn.reporting import Progress
from dist_dnn.run_states import COMPLETED, FAILED, RUNNING
from dist_dnn.storage import Folder, LocalFolder, open_folder
from dist_dnn.tracking import resume_command

LOCAL_SECONDS = 0.5
"""How often the files of this machine are looked at."""

STORE_SECONDS = 5.0
"""How often those of an object store are, where each look is a request that may cost money."""

EPOCHS_BEFORE = 10
"""So many epochs that were done before are shown."""

DEATH_SECONDS = 5.0
"""A run is dead when its process has been gone so long: under MPI another one may take over."""

MOST_MISSES = 5
"""A run whose files cannot be read so often, one time after the other, is given up."""


def watch_command(chosen: Any) -> None:
    """Show how a run goes on until it ends, and how it ended.

    Args:
        chosen: the command line.

    Raises:
        InputError: there is no such run.
        RunError: it did not end as it should.
    """
    report = make_progress(chosen.progress)
    folder = _begun(chosen.run, chosen.wait)
    pause = LOCAL_SECONDS if isinstance(folder, LocalFolder) else STORE_SECONDS
    try:
        status = Watch(folder, report, pause).until_it_ends()
    except KeyboardInterrupt as stopped:
        stopped.add_note(f"{folder.name} was only watched, and goes on")
        raise
    finally:
        report.close()
    _say_how_it_ended(folder, status, chosen.progress != "none")


def _begun(run: str, seconds: float) -> Folder:
    """The folder of a run, which may have so many seconds to begin, or to run again.

    Raises:
        InputError: there is none by then.
    """
    end = monotonic() + seconds
    folder = open_folder(run)
    is_there, ended = folder.is_there(), _ended(folder)
    before = ended
    while not is_there or (ended is not None and ended == before):
        if monotonic() >= end:
            break
        sleep(LOCAL_SECONDS if isinstance(folder, LocalFolder) else STORE_SECONDS)
        folder = open_folder(run)  # anew: a store's remembers what was there
        is_there, ended = folder.is_there(), _ended(folder)
    if is_there:
        return folder
    raise InputError(
        f"there is no run {folder.name}; correct the name, or give --wait SECONDS for it to begin"
    )


def _ended(folder: Folder) -> dict[str, Any] | None:
    """What a run that does not go on says of itself; None where it does, or says nothing."""
    with suppress(Broken):
        status = read_status(folder)
        is_gone = status["state"] == RUNNING and is_dead(folder, status)
        return status if is_gone or not _goes_on(folder, status) else None
    return None


def _goes_on(folder: Folder, status: dict[str, Any]) -> bool:
    """Whether a run is not known to have ended: what goes on with one writes its status last."""
    return status["state"] == RUNNING or folder.is_locked() is True


def _say_how_it_ended(folder: Folder, status: dict[str, Any], is_said: bool) -> None:
    name, state, error = folder.name, status["state"], status.get("error")
    if state == FAILED:
        raise RunError(f"{name} failed: {error}")
    if state != COMPLETED:
        raise RunError(
            f"{name} was stopped after step {status['step']} ({error}): go on with "
            f"`{resume_command(name)}`"
        )
    if is_said:
        epochs = read_epochs(folder)
        if epochs:
            say(f"digest {epochs[-1]['digest']}")
        say(f"model in {name}; next: dist-dnn evaluate {location_name(str(folder.location))} DATA")


class Watch:
    """Reports to a progress what the files of a run say, as its training would.

    Args:
        folder: the run's.
        report: what is reported to.
        pause: the seconds between two looks.
    """

    def __init__(self, folder: Folder, report: Progress, pause: float) -> None:
        self._folder = folder
        self._report = report
        self._pause = pause
        self._updated: object = None
        self._epochs: Epochs = []
        self._shown: int | None = None  # epochs
        self._rows: int | None = None  # of the epoch in work; None before it is shown
        self._sum = 0.0  # of their losses
        self._misses = 0
        self._gone_since: float | None = None
        self._was_silent = False

    def until_it_ends(self) -> dict[str, Any]:
        """Report until the run has ended.

        Returns:
            What its ``status.json`` says then.

        Raises:
            RunError: its process or its files are gone.
        """
        while True:
            try:
                status = read_status(self._folder)
                self._show(status)
                self._misses = 0
            except Broken as reason:
                self._miss(reason)
            else:
                if not _goes_on(self._folder, status):
                    return status
                if status["state"] == RUNNING:
                    self._check_alive(status)
            sleep(self._pause)

    def _miss(self, reason: Broken) -> None:
        """Let a file that cannot be read be, for a time: a store may not answer."""
        self._misses += 1
        if self._misses == MOST_MISSES:
            raise RunError(f"{self._folder.name} cannot be watched any more: {reason}") from None

    def _check_alive(self, status: dict[str, Any]) -> None:
        gone = is_dead(self._folder, status)
        if not gone:
            self._gone_since = None
        elif self._gone_since is None:
            self._gone_since = monotonic()
        elif monotonic() - self._gone_since > DEATH_SECONDS:
            with suppress(Broken):
                if read_status(self._folder) == status:
                    raise RunError(
                        f"{self._folder.name} is dead, its process is gone: go on with "
                        f"`{resume_command(self._folder.name)}`"
                    )
        if gone is None:
            self._warn_of_silence(status)

    def _warn_of_silence(self, status: dict[str, Any]) -> None:
        is_now = is_silent(status, self._epochs, age_of(status))
        if is_now and not self._was_silent:
            warn(
                f"{self._folder.name} has not been written for long, and whether its process is "
                f"still there cannot be known from here"
            )
        self._was_silent = is_now

    # What is new

    def _show(self, status: dict[str, Any]) -> None:
        done = status["epoch"]
        if status.get("updated") == self._updated and done == self._shown:
            return
        self._epochs = read_epochs(self._folder)
        epochs = read_experiment(self._folder).get("epochs")
        total = epochs if is_count(epochs) else done
        if self._shown is None:
            self._shown = max(0, done - EPOCHS_BEFORE)
        elif self._shown > done:  # it went on from an older checkpoint
            self._shown, self._rows = done, None
        # The metrics may be ahead of the status, and what goes on with a run cuts them off.
        for metrics in self._epochs[self._shown : done]:
            if self._rows is None:
                self._report.start_epoch(metrics["epoch"], total, 1, 1)
            self._report.end_epoch(metrics)
            self._shown, self._rows = self._shown + 1, None
        if status["state"] == RUNNING and self._shown == done < total:
            self._show_epoch(status, done + 1, total)
        self._updated = status.get("updated")

    def _show_epoch(self, status: dict[str, Any], epoch: int, epochs: int) -> None:
        """What is done of the epoch in work, which is told at its checkpoints."""
        m, in_epoch = status.get("m"), status.get("in_epoch")
        if not is_count(m) or not isinstance(in_epoch, dict):
            return
        rows, loss = in_epoch.get("rows"), in_epoch.get("loss")
        if not is_count(rows) or not (loss is None or is_number(loss)):
            return
        total = rows * float(loss or 0)
        if self._rows is None or rows < self._rows:
            self._report.start_epoch(epoch, epochs, m, rows)
        elif rows > self._rows:
            new = rows - self._rows
            self._report.step(new, (total - self._sum) / new, self._pause)
        self._rows, self._sum = rows, total
