"""The MPI group: the ranks that ``mpirun`` started, of which the lowest drives and computes too."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import numpy as np
import pyarrow as pa
from mpi4py import MPI

from dist_dnn import stopping
from dist_dnn.account import ACCOUNT, BROADCAST, REDUCE, WAITING
from dist_dnn.data.dataset import Dataset
from dist_dnn.data.sources import TableSource, location_name
from dist_dnn.errors import RunError
from dist_dnn.notices import warn
from dist_dnn.rounds import Result, Rounds, Vectors
from dist_dnn.shards import assign
from dist_dnn.tracking import resume_command
from workers.group import WorkerLost, check_same_arithmetic
from workers.last_words import LastWords
from workers.limits import UNMEASURED_SECONDS
from workers.mpi_member import OpenTask
from workers.mpi_seats import Seat
from workers.mpi_team import ROUND, Order, Requests, Talk, Team
from workers.mpi_worker import RankWorker, identity_of_run
from workers.settling import Loaded, Opened, SettlingGroup
from workers.shard_worker import error_of
from workers.shared_memory import doze

TICK = 0.02
"""A wait looks around after so many seconds: for signals, and its end."""

END_SECONDS = 5.0
"""How long what is under way may take when the ranks are to be let go."""

GRACE_SECONDS = 30.0
"""How long MPI may take to tell of a rank that was ended because it is late."""


@dataclass
class Rank:
    """A rank as the driver sees it.

    Attributes:
        datasets: those it knows.
    """

    seat: Seat
    datasets: set[str] = field(default_factory=set)


class MpiGroup(SettlingGroup):
    """The ranks of a team, this one among them.

    Args:
        team: all of them.

    Raises:
        InputError: more ranks than shards.
    """

    noun, flag = "rank", "mpirun -n"

    def __init__(
        self,
        team: Team,
        shards: int,
        allow_mixed_cpus: bool = False,
        max_failures: int = 3,
        step_timeout: float | None = None,
    ) -> None:
        super().__init__(
            shards, team.size, allow_mixed_cpus, max_failures, step_timeout, UNMEASURED_SECONDS
        )
        self.team = team
        self.worker = RankWorker(team)
        self.ranks = [Rank(seat) for seat in team.seats]
        self._held = assign(shards, team.size)
        self._losses: list[WorkerLost] = []
        self._is_greeted = False
        self._last_words: LastWords | None = None
        self._talk: Talk | None = iter(())
        self._awaited: Requests = ()
        self._began = self._looked = 0.0
        self._limit = UNMEASURED_SECONDS

    # What the driver asks for

    @property
    def reached(self) -> list[Rank]:
        return self.ranks

    def _shared(self, dataset: Dataset) -> Dataset:
        return dataset  # no rank comes later: it is sent once

    def _rounds(self, opened: Opened) -> Rounds:
        return MpiRounds(self, opened)

    def surviving(self, attempt: Callable[[], Result]) -> Result:
        # What is under way must be ended with the others before anything else is begun.
        with stopping.postponed():
            return super().surviving(attempt)

    # A round

    def run(self, opened: Opened, position: tuple[int, ...]) -> Vectors:
        """One round; returns the total of the sums."""
        assert self.worker.member is not None
        limit = opened.limit.seconds
        order = Order(ROUND, opened.number, self._alarm(limit), position)
        task = self.worker.member.tasks[opened.number]
        began = monotonic()
        self._complete(self._round(order, task), limit)
        opened.limit.took(monotonic() - began)
        if task.reports.has_failed:
            self._ask({"failed": opened.number})
            raise RunError("a round failed, and no rank says why")
        return task.total

    def _round(self, order: Order, task: OpenTask) -> Talk:
        ACCOUNT.lap(WAITING)
        yield from self.team.say(order)
        yield from self.team.broadcast(task.broadcast.segment.memory)
        ACCOUNT.lap(BROADCAST)
        reports = task.reports.expect()
        self.worker.compute(order)
        yield reports
        ACCOUNT.lap(WAITING)
        task.reports.add_up()
        yield from task.slices.add_up()
        ACCOUNT.lap(REDUCE)

    def _alarm(self, limit: float) -> int:
        """The nanoseconds after which the system ends another rank that still computes."""
        return int(limit * 1e9) if self.team.survives else 0

    def _ask(
        self,
        message: dict[str, Any],
        own: Callable[[], dict[str, Any]] | None = None,
        table: Any = None,
    ) -> dict[int, Any]:
        """What all ranks answer to a message, by index.

        Args:
            own: what this rank does, if that is something else.
            table: bytes that follow the message.

        Raises:
            InputError, RunError: what the lowest of them met.
        """
        answers: dict[int, Any] = {}
        do = own or (lambda: self.worker.do(message))
        self._complete(self._conversation(message, answers, do, table), UNMEASURED_SECONDS)
        for index in sorted(answers):
            if "error" in answers[index]:
                raise error_of(answers[index]["error"])
        return answers

    def _conversation(
        self,
        message: dict[str, Any],
        answers: dict[int, Any],
        own: Callable[[], dict[str, Any]],
        table: Any,
    ) -> Talk:
        yield from self.team.say_message(message)
        if table is not None:
            yield from self.team.broadcast(table)
        answers[0] = own()
        yield from self.team.answers(answers)

    # Waiting

    def _complete(self, talk: Talk, limit: float) -> None:
        """Do an exchange to its end.

        Raises:
            WorkerLost: a rank is lost, or late.
            Stopped: a signal asks for it; the exchange is still to be ended.
        """
        self._talk, self.in_hand = talk, limit
        self._limit = limit + GRACE_SECONDS * self.team.survives
        self._began = monotonic()
        try:
            self._go_on()
        except MPI.Exception as error:
            raise self._recovered(error) from None

    def _go_on(self) -> None:
        """Do what is left of the exchange that is under way.

        Raises:
            RunError: it was cut off, and cannot be ended any more.
        """
        if self._talk is None:
            raise RunError("an exchange between the ranks was cut off")
        self.team.wait(self._awaited, self._look)
        while (awaited := self._next(self._talk)) is not None:
            self._awaited = awaited
            self.team.wait(awaited, self._look)
        self._awaited = ()
        self.team.is_in_step = True

    def _next(self, talk: Talk) -> Requests | None:
        """What is to be waited for next; None at the end."""
        self.team.is_in_step = False  # until it has come to its end
        try:
            return next(talk, None)
        except BaseException:
            self._talk = None
            raise

    def _look(self, waited: float) -> None:
        doze(waited)
        now = monotonic()
        if now - self._looked > TICK:
            self._looked = now
            stopping.check()
            if now - self._began > self._limit:
                self._check_late()

    def _check_late(self) -> None:
        """Raise RunError where a rank does not answer: if losses are survived, MPI would know."""
        pending = [number for number, each in enumerate(self._awaited, 1) if not each.Test()]
        if pending:
            is_each = len(self._awaited) == len(self.team.others)  # one request for each of them
            who = self.ranks[pending[0]].seat.name if is_each else "a rank"
            raise RunError(f"{who} did not finish a step in {self._limit:.3g} s")

    def _recovered(self, error: MPI.Exception) -> RunError:
        """Find those that are left; returns the loss of the first of those that are not."""
        self._talk, self._awaited = iter(()), ()
        is_late = monotonic() - self._began > self.in_hand
        what = f"MPI failed: {' '.join(error.Get_error_string().split())}"
        if not self.team.survives:
            self.team.is_in_step = False
            return RunError(what)
        before = dict(zip((seat.number for seat in self.team.seats), self._held, strict=True))
        try:
            lost = self.team.recover()
        except MPI.Exception:
            self.team.is_in_step = False
            return RunError(f"{what}, and the ranks that are left do not find each other")
        self.team.is_in_step = True
        self._held = assign(self.shards, self.team.size)
        self._unsettle()
        self._losses = [
            WorkerLost(seat.number, before[seat.number], self._how(seat, is_late), self.noun)
            for seat in lost
        ]
        if lost:
            return self._losses[0]
        own = self.team.own.number  # nobody is lost, but what was under way is
        return WorkerLost(own, before[own], what, self.noun)

    def _how(self, seat: Seat, is_late: bool) -> str:
        """How a rank was lost."""
        if self.team.watch is not None and self.team.watch.has_stopped(seat):
            return f"on {seat.host} was stopped for {self.step_timeout:.3g} s"
        if is_late:
            return f"did not finish a step in {self.in_hand:.3g} s"
        return f"on {seat.host} is gone"

    # Who is there

    def bury(self, loss: WorkerLost) -> list[WorkerLost]:
        losses, self._losses = self._losses, []
        self.ranks = [rank for rank in self.ranks if rank.seat in self.team.seats]
        return losses or [loss]

    def _join(self) -> None:
        if not self._is_greeted:
            greetings = self._ask({"greet": True})
            for index in self.team.others:
                own, other = (greetings[each]["arithmetic"] for each in (0, index))
                name = f"rank {self.team.seats[index].number}"
                check_same_arithmetic(own, other, name, self.allow_mixed_cpus)
            self._is_greeted = True
        self._ask({"join": self._held, "shards": self.shards})
        self.workers = self.team.size

    def _load(self, lacking: Sequence[Rank], name: str, loaded: Loaded) -> None:
        dataset: Dataset = loaded.table
        table = _table_bytes(dataset)
        size = 0 if table is None else table.size

        def own() -> dict[str, Any]:
            self.worker.datasets[name] = dataset
            return {}

        message = {"load": name, "description": loaded.description, "bytes": size}
        self._ask(message, own, table)

    def _open(self, name: str, opened: Opened) -> None:
        message = {"open": name, "number": opened.number, "options": opened.options}

        def own() -> dict[str, Any]:
            return self.worker.open(message, opened.broadcast)

        self._ask(message, own)

    def keep_in(self, location: str) -> None:
        name = location_name(location)
        if not self.team.survives:
            self._last_words = LastWords(
                f"error: the ranks were killed: the run's checkpoints are in {name}: go on with "
                f"`{resume_command(name)}`"
            )
            return
        message = {"keep": location, "as": identity_of_run(location)}
        answers = self.surviving(lambda: self._ask(message))
        blind = [self.team.seats[index].name for index in answers if not answers[index]["sees"]]
        if blind:
            warn(
                f"{', '.join(blind)} cannot see {name}: where the ranks that can are lost, the "
                f"run ends, with a checkpoint there"
            )

    def close(self, at_once: bool = False) -> None:
        self._began, self._limit = monotonic(), END_SECONDS
        try:
            self._go_on()
        except MPI.Exception as error:
            self._recovered(error)
        except RunError:
            pass  # the ranks can be told nothing any more, and are ended
        finally:
            if self._last_words is not None:
                self._last_words.close()
            self._forget_all()


class MpiRounds:
    """The rounds of one task opened on an MPI group."""

    def __init__(self, group: MpiGroup, opened: Opened) -> None:
        self.broadcast = opened.broadcast.vectors
        self._group = group
        self._opened = opened

    def run(self, *position: int) -> Vectors:
        return self._group.run(self._opened, position)


def _table_bytes(dataset: Dataset) -> Any:
    """A table in memory as the bytes of an Arrow IPC file; None for files."""
    if not isinstance(dataset.source, TableSource):
        return None
    table = dataset.source.select(dataset.names)
    content = np.empty(table.ipc_size(), np.uint8)
    table.write_ipc(pa.FixedSizeBufferWriter(pa.py_buffer(content.data)))
    return content
