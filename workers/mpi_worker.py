"""A rank's work: what it does on the driver's orders, and serving until the driver lets it go."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import current_thread, main_thread
from typing import Any

import numpy as np
import pyarrow as pa
from mpi4py import MPI

from dist_dnn.account import ACCOUNT, BROADCAST, REDUCE, WAITING
from dist_dnn.arithmetic import arithmetic
from dist_dnn.data.dataset import Dataset
from dist_dnn.errors import InputError, RunError
from dist_dnn.stopping import SIGNALS
from dist_dnn.storage import open_folder
from workers.mpi_member import RankMember
from workers.mpi_seats import Seat
from workers.mpi_team import MESSAGE, Order, Talk, Team
from workers.shard_worker import failure_of, failures, seen_dataset, task_class
from workers.shared_memory import Broadcast

END = "end"
"""The message that lets ranks go."""


class RankWorker:
    """What a rank knows and computes.

    Attributes:
        datasets: those that are loaded.
        member: this rank among those that hold all shards.
        lost: the seats of the ranks that were lost last, the lowest first.
        sees_run: whether this rank sees where the run is kept; None as long as it is nowhere.
    """

    def __init__(self, team: Team) -> None:
        self.team = team
        self.datasets: dict[str, Dataset] = {}
        self.member: RankMember | None = None
        self.sees_run: bool | None = None
        self.lost: list[Seat] = []
        self._error: InputError | RunError | None = None

    def do(self, message: dict[str, Any]) -> dict[str, Any]:
        """Do what a message says; returns the answer, which has "error" where that fails."""
        if "greet" in message:
            return {"arithmetic": arithmetic() | {"host": self.team.own.host}}
        if "keep" in message:
            self.sees_run = _sees(message["keep"], message["as"])
            return {"sees": self.sees_run}
        if "failed" in message:
            return {} if self._error is None else self._named({"error": failure_of(self._error)})
        if "open" in message:
            sizes, _ = task_class(message["open"]).sizes(message["options"])
            broadcast = Broadcast(sizes)
            broadcast.close()  # nobody else is to have it
            return self.open(message, broadcast)
        return self._join(message) if "join" in message else self._load(message)

    def open(self, message: dict[str, Any], broadcast: Broadcast) -> dict[str, Any]:
        """Make a task, as a message says; returns the answer."""
        assert self.member is not None
        with failures() as failed:
            self.member.open(message["number"], message["open"], message["options"], broadcast)
        return self._named(failed)

    def _join(self, message: dict[str, Any]) -> dict[str, Any]:
        held = [tuple(shards) for shards in message["join"]]
        self.member = RankMember(self.team, held, message["shards"], self.datasets)
        return {}

    def _load(self, message: dict[str, Any]) -> dict[str, Any]:
        buffer = None
        if message["bytes"]:
            table = np.zeros(message["bytes"], np.uint8)
            self.team.complete(self.team.broadcast(table))
            buffer = pa.py_buffer(table.data)
        with failures() as failed:
            dataset = seen_dataset(message["description"], buffer, self.team.own.name)
            self.datasets[message["load"]] = dataset
        return self._named(failed)

    def _named(self, failed: dict[str, Any]) -> dict[str, Any]:
        """An error that says of which rank it is, unless it does."""
        name = self.team.own.name
        if failed and not failed["error"]["error"].startswith(name):
            failed["error"]["error"] = f"{name}: {failed['error']['error']}"
        return failed

    def compute(self, order: Order) -> None:
        """Compute this rank's part of a round, and note how that went."""
        assert self.member is not None
        self._error = self.member.compute(order.number, order.position)

    def round(self, order: Order) -> Talk:
        """A round on a rank that serves."""
        assert self.member is not None
        task = self.member.tasks[order.number]
        ACCOUNT.lap(WAITING)
        yield from self.team.broadcast(task.broadcast.segment.memory)
        ACCOUNT.lap(BROADCAST)
        with _alarm(order.nanoseconds * 1e-9):
            self.compute(order)
        yield task.reports.send()
        yield from task.slices.add_up()
        ACCOUNT.lap(REDUCE)


def serve(worker: RankWorker) -> Any:
    """Do what the driver orders until it lets go of this rank.

    Returns:
        What the driver's end says; None where this rank is to drive, since the lowest was lost.

    Raises:
        MPI.Exception: a rank is lost, and that is not survived.
    """
    team = worker.team
    while True:
        try:
            while not (message := _step(worker)):
                pass
            return message
        except MPI.Exception:
            if not team.survives:
                raise
            worker.lost = team.recover()
            if team.drives:
                return None


def _step(worker: RankWorker) -> Any:
    """Do one order; returns the end's message, if it is that."""
    team = worker.team
    order = team.hear()
    if order.kind != MESSAGE:
        team.complete(worker.round(order))
        return None
    message = team.hear_message(order)
    if END in message:
        with suppress(MPI.Exception):  # whoever has heard it may be gone
            team.complete(team.meet())
        return message
    team.complete(team.answer(worker.do(message)))
    return None


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """A context whose process is ended by the system when it takes longer; 0: it may."""
    if seconds:
        signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        if seconds:
            signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def deaf() -> Iterator[None]:
    """A context in which signals do not end this rank: the driver decides what they end."""
    if current_thread() is not main_thread():
        yield
        return
    wanted = {
        **dict.fromkeys(SIGNALS, signal.SIG_IGN),
        signal.SIGALRM: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _sees(location: str, identity: str) -> bool:
    """Whether this rank sees the run that the driver keeps."""
    try:
        return identity_of_run(location) == identity
    except Exception:  # whatever it is: it cannot go on with it
        return False


def identity_of_run(location: str) -> str:
    """What tells a run from others of its name on other machines."""
    return open_folder(location).read("environment.json").decode()
