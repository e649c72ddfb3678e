"""The team: the MPI ranks that are left, of which the lowest drives, and how they talk."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from time import sleep
from typing import Any, NamedTuple

import numpy as np
from mpi4py import MPI

from workers.limits import SHORTEST_TIMEOUT
from workers.mpi_seats import Seat, Watch
from workers.mpi_start import limited, survives
from workers.shared_memory import doze, wait_until

CHUNK_BYTES = 2**30
"""So much is broadcast at once; MPI counts in 32 bits."""

YIELDING_SECONDS = 5e-3
"""MPI moves nothing while both sides sleep: that long a rank does not."""

LENGTH, ANSWER, REPORT = 1, 2, 3
"""What a message from one rank to another is."""

RECOVER_SECONDS = 600.0
"""How long those that are left may take to find each other: one may be reading its rows."""

DO_NOT_MEET = (
    f"the ranks that are left did not find each other in {RECOVER_SECONDS:g} s: one of them is "
    f"stopped, or slow; go on with the run by --resume"
)

ATTEMPTS = 10
"""So often may further ranks be lost while those that are left find each other."""

LAST_WORDS_SECONDS = 0.5
"""A launcher that ends all ranks drops what it has not read; it does so within this time."""

Requests = Sequence[MPI.Request]
Talk = Iterator[Requests]
"""An exchange with the others, as the requests that are to be waited for, one after the other."""

Pieces = tuple[Any, list[int], list[int]]
"""A float32 vector, and for each rank how many numbers are its piece, and where that begins."""

Look = Callable[[float], object]
"""Looks, after so many seconds of waiting, for what ends it, and sleeps a little."""


class Order(NamedTuple):
    """What the driver wants of all ranks: a round, or what a message says.

    Attributes:
        kind: ROUND or MESSAGE.
        number: of the task, or the length of the message.
        nanoseconds: that computing may take; 0: as many as it does.
        position: of the round.
    """

    kind: int
    number: int
    nanoseconds: int = 0
    position: tuple[int, ...] = ()


ROUND, MESSAGE = 1, 2
MOST_POSITIONS = 4


class Team:
    """The ranks that are left, ascending.

    Args:
        communicator: of them all.
        stopped_seconds: for how long one may be stopped.

    Attributes:
        seats: theirs; the lowest drives.
        index: of this rank among them.
        absent: the numbers of those that were lost before they could join.
        watch: ends ranks that are stopped, where lost ranks are survived.
        is_in_step: no rank waits for what this one does not do any more.
    """

    def __init__(self, communicator: MPI.Comm, stopped_seconds: float) -> None:
        self.survives = survives()
        self.is_in_step = True
        self.seats: list[Seat] = []
        self.index = 0
        self._words = np.zeros(4 + MOST_POSITIONS, np.int64)
        self._communicator = communicator
        self._assemble()
        self.watch = Watch(stopped_seconds, lambda: self.seats) if self.survives else None
        there = {seat.number for seat in self.seats}
        self.absent = [number for number in range(MPI.COMM_WORLD.size) if number not in there]

    @property
    def size(self) -> int:
        return len(self.seats)

    @property
    def drives(self) -> bool:
        """Whether this rank does."""
        return self.index == 0

    @property
    def own(self) -> Seat:
        return self.seats[self.index]

    @property
    def others(self) -> range:
        """The indices of the ranks that only serve."""
        return range(1, self.size)

    # Who is there

    def recover(self) -> list[Seat]:
        """Find those that are left; returns those that are not.

        Raises:
            MPI.Exception: that is not possible.
        """
        before = self.seats
        with limited(RECOVER_SECONDS, DO_NOT_MEET):
            self._shrink()
            self._assemble()
        left = {seat.number for seat in self.seats}
        return [seat for seat in before if seat.number not in left]

    def _assemble(self) -> None:
        """Learn who is in the communicator; leave it when one of them is lost meanwhile."""
        for attempt in range(ATTEMPTS):
            try:
                self._communicator.Set_errhandler(MPI.ERRORS_RETURN)
                self.seats = [
                    Seat(*each) for each in self._of_all(list(Seat.own(MPI.COMM_WORLD.rank)))
                ]
                self.index = self._communicator.rank
                return
            except MPI.Exception:
                if not self.survives or attempt == ATTEMPTS - 1:
                    raise
                self._shrink()

    def _shrink(self) -> None:
        """Leave the communicator for one of those that are alive, in the same order."""
        with suppress(MPI.Exception):
            self._communicator.Revoke()  # so that nobody waits in it for the lost ones
        self._communicator = self._communicator.Shrink()

    def _of_all(self, value: Any) -> list[Any]:
        """What each rank gives, as JSON can say it, on all of them."""
        data = np.frombuffer(json.dumps(value).encode(), np.uint8)
        lengths = np.zeros(self._communicator.size, np.int64)
        self._communicator.Allgather(np.array([data.size]), lengths)
        everyone = np.zeros(lengths.sum(), np.uint8)
        self._communicator.Allgatherv(data, [everyone, lengths.tolist()])
        stops = np.cumsum(lengths)
        return [
            json.loads(everyone[stop - length : stop].tobytes())
            for stop, length in zip(stops, lengths, strict=True)
        ]

    # Talking

    def complete(self, talk: Talk, look: Look = doze) -> None:
        """Do an exchange to its end.

        Raises:
            MPI.Exception: a rank is lost.
        """
        for requests in talk:
            self.wait(requests, look)

    def wait(self, requests: Requests, look: Look = doze) -> None:
        """Wait for what is under way.

        Raises:
            MPI.Exception: a rank is lost.
        """
        pending = list(requests)
        wait_until(lambda: MPI.Request.Testall(pending), look, YIELDING_SECONDS)

    def say(self, order: Order) -> Talk:
        """The driver's: have all ranks hear an order."""
        words = [*order[:3], len(order.position), *order.position]
        self._words[: len(words)] = words
        yield [self._communicator.Ibcast(self._words, 0)]

    def say_message(self, message: Any) -> Talk:
        """The driver's: have all ranks hear a message that JSON can say."""
        data = json.dumps(message).encode()
        yield from self.say(Order(MESSAGE, len(data)))
        yield from self.broadcast(bytearray(data))

    def hear(self) -> Order:
        """The next order; a message's words have still to be heard."""
        self.wait([self._communicator.Ibcast(self._words, 0)])
        kind, number, nanoseconds, positions = self._words[:4].tolist()
        return Order(kind, number, nanoseconds, tuple(self._words[4 : 4 + positions].tolist()))

    def hear_message(self, order: Order) -> Any:
        """The message of an order."""
        data = bytearray(order.number)
        self.complete(self.broadcast(data))
        return json.loads(data)

    def broadcast(self, memory: Any) -> Talk:
        """The driver's bytes in everyone's memory."""
        data = np.frombuffer(memory, np.uint8)
        for first in range(0, data.size, CHUNK_BYTES):
            piece = data[first : first + CHUNK_BYTES]
            yield [self._communicator.Ibcast([piece, MPI.BYTE], 0)]

    def answer(self, value: Any) -> Talk:
        """Tell the driver something that JSON can say."""
        data = json.dumps(value).encode()
        length = np.array([len(data)])
        yield [
            self._communicator.Isend(length, 0, LENGTH),
            self._communicator.Isend([data, MPI.BYTE], 0, ANSWER),
        ]

    def answers(self, into: dict[int, Any]) -> Talk:
        """What all others answer, by index."""
        lengths = np.zeros(self.size, np.int64)
        yield [self._communicator.Irecv(lengths[i : i + 1], i, LENGTH) for i in self.others]
        data = {index: np.zeros(lengths[index], np.uint8) for index in self.others}
        yield [self._communicator.Irecv([data[i], MPI.BYTE], i, ANSWER) for i in self.others]
        into.update({index: json.loads(each.tobytes()) for index, each in data.items()})

    def report(self, numbers: Any) -> Requests:
        """Send the driver float64 numbers."""
        return [self._communicator.Isend(numbers, 0, REPORT)]

    def reports(self, numbers: Sequence[Any]) -> Requests:
        """What all others report, in the order of their indices."""
        return [
            self._communicator.Irecv(each, index, REPORT)
            for index, each in zip(self.others, numbers, strict=True)
        ]

    def exchange(self, sent: Pieces, received: Pieces) -> Requests:
        """Pieces of float32 vectors, from everyone to everyone."""
        return [self._communicator.Ialltoallv([*sent, MPI.FLOAT], [*received, MPI.FLOAT])]

    def gather(self, piece: Any, into: Pieces) -> Requests:
        """Everyone's piece of a float32 vector in the driver's, whose own is in its place."""
        if self.drives:
            return [self._communicator.Igatherv(MPI.IN_PLACE, [*into, MPI.FLOAT], 0)]
        return [self._communicator.Igatherv([piece, MPI.FLOAT], None, 0)]

    def meet(self) -> Talk:
        """Everyone has come as far as this."""
        yield [self._communicator.Ibarrier()]

    def abort(self, status: int) -> None:
        """End all ranks at once, this one too, when the launcher has read what it said."""
        sleep(LAST_WORDS_SECONDS)
        self._communicator.Abort(status)


_team: Team | None = None


def join(stopped_seconds: float = SHORTEST_TIMEOUT) -> Team:
    """The team of all ranks that were launched together, or of those that are left.

    Args:
        stopped_seconds: for how long one may be stopped; the first call's counts.
    """
    global _team
    if _team is None:
        _team = Team(_all_ranks(), stopped_seconds)
    return _team


def _all_ranks() -> MPI.Comm:
    """A communicator of our own of all that were launched and are alive."""
    if not survives():
        return MPI.COMM_WORLD.Dup()
    MPI.COMM_WORLD.Set_errhandler(MPI.ERRORS_RETURN)
    return MPI.COMM_WORLD.Shrink()


def is_sound() -> bool:
    """Whether MPI can be ended in good order."""
    return _team is None or _team.is_in_step
