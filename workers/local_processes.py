"""The local group: worker processes on this machine that exchange through shared memory."""

import os
import platform
import select
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import Any

import pyarrow as pa

from dist_dnn import stopping
from dist_dnn.arithmetic import arithmetic
from dist_dnn.data.dataset import Dataset
from dist_dnn.data.sources import TableSource
from dist_dnn.errors import RunError
from dist_dnn.notices import warn
from dist_dnn.rounds import Rounds, Vectors
from dist_dnn.shards import assign
from workers.group import WorkerLost, check_same_arithmetic, raise_first
from workers.limits import (
    TOGETHER_PART,
    TOGETHER_SECONDS,
    UNMEASURED_SECONDS,
)
from workers.messages import ring
from workers.process import Process
from workers.settling import Loaded, Opened, SettlingGroup
from workers.shared_memory import (
    ORDERED_STORES,
    Arena,
    Board,
    Segment,
    wait_until,
)

START_SECONDS = 60.0
"""How long a worker may take to start."""

OTHERS_SECONDS = 5.0
"""How long to wait, after a worker's error, for workers that hold lower rows."""

TICK = 0.02
"""A wait looks around after so many seconds: for signals, stopped workers, its end."""


@dataclass
class Members:
    """Who holds what, and the words that they tell each other by; new ones whenever shards move.

    What a worker that was taken for dead may still write goes into memory that nobody reads.
    """

    held: list[tuple[int, ...]]
    board: Board
    arenas: dict[int, Arena] = field(default_factory=dict)
    """The slots of the tasks that are open, by number."""


class LocalGroup(SettlingGroup):
    """Worker processes, started at once and joined when they are needed.

    Args:
        step_timeout: the seconds that a worker may be stopped, and a round take, unless the rounds
            before it took a good part of that.

    Raises:
        InputError: more workers than shards.
        RunError: they cannot be started.
    """

    def __init__(
        self,
        shards: int,
        workers: int,
        allow_mixed_cpus: bool = False,
        max_failures: int = 3,
        step_timeout: float | None = None,
    ) -> None:
        super().__init__(
            shards, workers, allow_mixed_cpus, max_failures, step_timeout, START_SECONDS
        )
        if platform.machine() not in ORDERED_STORES:
            raise RunError(
                f"local workers need a processor of {' or '.join(ORDERED_STORES)}, not "
                f"{platform.machine()}: use --workers 0"
            )
        self.messages = 0
        self.members: Members | None = None
        self.processes: list[Process] = []
        self.poll = select.poll()
        self._start(workers)

    # What the driver asks for

    @property
    def reached(self) -> list[Process]:
        return self.processes

    def _shared(self, dataset: Dataset) -> Segment | None:
        return _table_segment(dataset)

    def _forget_table(self, table: Segment | None) -> None:
        if table is not None:
            table.close_descriptor()

    def _rounds(self, opened: Opened) -> Rounds:
        return LocalRounds(self, opened)

    def run(self, opened: Opened, position: tuple[int, ...]) -> None:
        """One round: returns when all slices of the sums are finished."""
        assert self.members is not None
        board = self.members.board
        self.generation = generation = self.generation + 1
        board.ask(generation, opened.number, position)
        for process, words in zip(self.processes, board.workers, strict=True):
            if words[Board.SLEEPING]:
                ring(process.connection)
        began = monotonic()
        limit = self.in_hand = opened.limit.seconds
        wait_until(
            lambda: board.is_finished(generation), lambda _: self._sleep(board, began, limit)
        )
        opened.limit.took(monotonic() - began)
        for process in self.processes:
            process.stopped_since = None

    # Waiting

    def _sleep(self, board: Board, began: float, limit: float) -> None:
        """Sleep until a worker rings, fails, is gone or is late."""
        board.driver[Board.SLEEPING] = 1
        # A ring that crossed with the word just written is made up for by the next look.
        errors = self._errors()
        board.driver[Board.SLEEPING] = 0
        if errors:
            self._give_up_round(board, errors)
        if monotonic() - began > limit:
            self._check_late(board, limit)

    def _check_late(self, board: Board, limit: float) -> None:
        """Raise WorkerLost for the first worker that keeps the round waiting."""
        for word in (Board.COMPUTED, Board.FINISHED):
            for process, words in zip(self.processes, board.workers, strict=True):
                if words[word] != self.generation:
                    process.check_stopped(0)
                    raise process.lost(f"did not finish a step in {limit:.3g} s")

    def _errors(self) -> dict[int, dict[str, Any]]:
        """The errors of this round that workers have sent, by worker."""
        return {
            number: message
            for number, message in self._messages().items()
            if message.get("generation") == self.generation
        }

    def _messages(self) -> dict[int, dict[str, Any]]:
        """A message of each worker that has sent one, by worker; waits a tick for any.

        Raises:
            WorkerLost: a worker is gone, or has been stopped for too long.
            Stopped: a signal asks for it.
        """
        ready = {descriptor for descriptor, _ in self.poll.poll(1000 * TICK)}
        stopping.check()
        messages = {}
        for process in self.processes:
            if process.connection.fileno() in ready:
                message = process.receive()
                if message is not None:
                    messages[process.number] = message
            elif not ready:
                process.check_stopped(self.step_timeout)
        return messages

    def _give_up_round(self, board: Board, errors: dict[int, dict[str, Any]]) -> None:
        """Let all workers end the round without its sums, then raise the lowest error."""
        board.driver[Board.ABANDONED] = self.generation
        end = monotonic() + OTHERS_SECONDS
        while monotonic() < end:
            pending = (
                number
                for number, words in enumerate(board.workers)
                if number not in errors and words[Board.COMPUTED] != self.generation
            )
            if all(number > min(errors) for number in pending):
                break
            errors |= self._errors()
        raise_first(errors)

    def _ask(
        self,
        processes: Sequence[Process],
        message: dict[str, Any],
        *segments: Segment | None,
        seconds: float = UNMEASURED_SECONDS,
    ) -> None:
        """Send workers a message with memory, and wait until they have done what it says.

        Raises:
            InputError, RunError: what the lowest of them met.
        """
        self.messages += 1
        descriptors = [segment.descriptor for segment in segments if segment is not None]
        for process in processes:
            process.send(message | {"message": self.messages}, descriptors)
        answers: dict[int, dict[str, Any]] = {}
        self.in_hand = seconds
        end = monotonic() + seconds
        while len(answers) < len(processes):
            for number, answer in self._messages().items():
                if answer.get("message") == self.messages:
                    answers[number] = answer
            if monotonic() > end:
                late = next(each for each in processes if each.number not in answers)
                raise late.lost("did not answer in time")
        raise_first({number: each for number, each in answers.items() if "error" in each})

    # Who is there

    def _load(self, lacking: Sequence[Process], name: str, loaded: Loaded) -> None:
        message = {"load": name, "description": loaded.description}
        self._ask(lacking, message, loaded.table)

    def _open(self, name: str, opened: Opened) -> None:
        assert self.members is not None
        _, sums = opened.task.sizes(opened.options)
        arena = Arena(self.members.held, self.shards, sums)
        message = {"open": name, "number": opened.number, "options": opened.options}
        try:
            self._ask(self.processes, message, opened.broadcast.segment, arena.segment)
        finally:
            arena.segment.close_descriptor()
        self.members.arenas[opened.number] = arena

    def _start(self, workers: int) -> None:
        """Start processes until there are so many, or as many as can be.

        Raises:
            RunError: there is none.
        """
        failed: OSError | None = None
        for number in range(workers):
            if all(process.number != number for process in self.processes):
                try:
                    process = Process(number)
                except OSError as error:
                    failed = error
                else:
                    self.processes.append(process)
                    self.poll.register(process.connection.fileno(), select.POLLIN)
        self.processes.sort(key=lambda process: process.number)
        if failed is not None:
            if not self.processes:
                raise RunError(f"no worker could be started: {failed}") from failed
            warn(f"not all workers could be started: {failed}; the others hold all shards")
            self.workers = len(self.processes)

    def _join(self) -> None:
        self._start(self.workers)
        held = assign(self.shards, len(self.processes))
        for number, (process, shards) in enumerate(zip(self.processes, held, strict=True)):
            process.number, process.held = number, shards
        self._bind()
        self._await_greetings()
        own = arithmetic()
        for process in self.processes:
            if not process.is_checked:
                assert process.greeting is not None
                theirs = process.greeting["arithmetic"]
                name = f"worker {process.number}"
                check_same_arithmetic(own, theirs, name, self.allow_mixed_cpus)
                process.is_checked = True
        segment = Segment.create(Board.size(len(self.processes)))
        members = Members(held, Board(segment.memory))
        members.board.driver[Board.GENERATION] = self.generation
        message = {"held": held, "shards": self.shards}
        try:
            for process in self.processes:
                part = message | {"join": process.number}
                self._ask([process], part, segment, seconds=self.in_hand)
        finally:
            segment.close_descriptor()
        self.members = members

    def _bind(self) -> None:
        """Give each worker a core of its own where there are just as many as workers.

        The driver then shares a core with one of them, and they wait for each other all the same.
        Unbound, two workers may come to share a core while it waits on the other.
        """
        if not hasattr(os, "sched_getaffinity"):
            return
        cores = os.sched_getaffinity(0)
        own = len(cores) == len(self.processes)
        for process, core in zip(self.processes, sorted(cores), strict=False):
            process.bind({core} if own else cores)

    def _await_greetings(self) -> None:
        """Wait until all workers have started.

        Raises:
            WorkerLost: one did not in time.
        """
        end = monotonic() + START_SECONDS
        while late := [process for process in self.processes if process.greeting is None]:
            self._messages()
            if monotonic() > end:
                raise late[0].lost(f"did not start in {START_SECONDS:.0f} s")

    def bury(self, loss: WorkerLost) -> list[WorkerLost]:
        if self.members is not None:
            self.members.board.driver[Board.ABANDONED] = self.generation
        self.members = None
        self._unsettle()
        sleep(TOGETHER_SECONDS)
        losses = {loss.worker: loss}
        for process in self.processes:
            if process.number not in losses and (other := self._loss_of(process)) is not None:
                losses[process.number] = other
        lost = [each for each in self.processes if each.number in losses]
        for process in lost:
            process.end(at_once=True)
        self.processes = [each for each in self.processes if each not in lost]
        self.poll = select.poll()
        for process in self.processes:
            self.poll.register(process.connection.fileno(), select.POLLIN)
        return [losses[number] for number in sorted(losses)]

    def _loss_of(self, process: Process) -> WorkerLost | None:
        """How a worker was lost with another one; None where it was not."""
        if process.has_ended():
            return process.lost()
        try:
            process.check_stopped(TOGETHER_PART * self.step_timeout)
        except WorkerLost as loss:
            return loss
        return None

    def close(self, at_once: bool = False) -> None:
        for process in self.processes:
            process.connection.close()
        for process in self.processes:
            process.end(at_once)
        self.processes = []
        self.members = None
        self._forget_all()


class LocalRounds:
    """The rounds of one task opened on a local group."""

    def __init__(self, group: LocalGroup, opened: Opened) -> None:
        self.broadcast = opened.broadcast.vectors
        self._group = group
        self._opened = opened

    def run(self, *position: int) -> Vectors:
        self._group.run(self._opened, position)
        assert self._group.members is not None
        [total] = self._group.members.arenas[self._opened.number].totals.values()
        return total


def _table_segment(dataset: Dataset) -> Segment | None:
    """A table in memory as an Arrow IPC file in shared memory; None for files."""
    if not isinstance(dataset.source, TableSource):
        return None
    table = dataset.source.select(dataset.names)
    size = table.ipc_size()
    segment = Segment.create(size)
    table.write_ipc(pa.FixedSizeBufferWriter(pa.py_buffer(segment.memory)))
    return segment
