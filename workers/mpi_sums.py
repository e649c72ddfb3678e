"""The all-reduce of a task's sums over MPI ranks, along the fixed tree over the shards.

MPI moves the numbers and adds none of them: in which order it would add depends on the library,
and on how many ranks there are.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dist_dnn.rounds import Sizes, Vectors
from dist_dnn.shards import joining_additions
from workers.member import slice_of
from workers.mpi_team import Requests, Talk, Team

Subtree = tuple[int, int]
"""The shards [first, stop) of a complete subtree."""

FAILED, FIRST_SUM = 0, 1
"""What a report has before its sums."""


class Layout(NamedTuple):
    """Where the sums of one task are.

    Attributes:
        team: the ranks.
        subtrees: those that each of them holds.
        kept: where the sums of this rank's are; the driver's first ones take the total.
        sums: their lengths.
        shards: S.
    """

    team: Team
    subtrees: list[list[Subtree]]
    kept: dict[Subtree, Vectors]
    sums: Sizes
    shards: int

    @property
    def own(self) -> list[Vectors]:
        """The sums of this rank, in order."""
        return [self.kept[subtree] for subtree in self.subtrees[self.team.index]]


class Slices:
    """The float32 sums: every rank adds up a slice of them, and the driver gathers the slices.

    A rank sends every other one the slice that the other finishes: of the first complete subtree
    that it holds in a first call, of the second in a second, and so on.
    """

    def __init__(self, layout: Layout) -> None:
        team, subtrees, kept, sums, shards = layout
        self._team = team
        self._slices = [slice_of(sums, index, team.size) for index in range(team.size)]
        self._own = own = self._slices[team.index]
        self._places = {subtree: vectors.single[own] for subtree, vectors in kept.items()}
        self._vectors = [vectors.single for vectors in layout.own]
        self._total = self._vectors[0], *_shares(self._slices)
        most = max(map(len, subtrees))
        self._calls = [(self._sent(nth), self._received(nth, subtrees)) for nth in range(most)]
        self._is_empty = sums.single == 0
        self._additions, self._sum = joining_additions(self._places, 0, shards)

    def _sent(self, nth: int) -> tuple[Any, list[int], list[int]]:
        """What this rank sends in a call: the array, each other rank's share, and its start."""
        shares, starts = _shares(self._slices)
        shares[self._team.index] = 0
        if nth < len(self._vectors):
            return self._vectors[nth], shares, starts
        return self._vectors[0], [0] * self._team.size, starts

    def _received(
        self, nth: int, subtrees: list[list[Subtree]]
    ) -> tuple[NDArray[np.float32], list[int], list[int]]:
        """What this rank receives in a call, as ``_sent``; new memory for it."""
        length = _length(self._own)
        senders = [
            index
            for index, each in enumerate(subtrees)
            if index != self._team.index and nth < len(each)
        ]
        received = np.zeros(length * len(senders), np.float32)
        shares, starts = [0] * self._team.size, [0] * self._team.size
        for place, index in enumerate(senders):
            shares[index], starts[index] = length, length * place
            self._places[subtrees[index][nth]] = received[starts[index] :][:length]
        return received, shares, starts

    def add_up(self) -> Talk:
        """Exchange, add along the tree, and let the driver gather the total."""
        if self._is_empty:
            return
        for sent, received in self._calls:
            yield self._team.exchange(sent, received)
        for into, other in self._additions:
            np.add(into, other, out=into)
        yield self._team.gather(self._sum, self._total)


class Reports:
    """What every rank tells the driver of a round: how it went, and its float64 sums.

    Attributes:
        received: the driver's: those of all other ranks, in their order.
    """

    def __init__(self, layout: Layout) -> None:
        team, subtrees, kept, sums, shards = layout
        self._team = team
        lengths = [FIRST_SUM + len(each) * sums.double for each in subtrees]
        self._own = np.zeros(lengths[team.index])
        self._kept = [vectors.double for vectors in layout.own]
        self.received: list[NDArray[np.float64]] = []
        if team.drives:
            self.received = [np.zeros(lengths[index]) for index in team.others]
            places = {subtree: vectors.double for subtree, vectors in kept.items()}
            for index, report in zip(team.others, self.received, strict=True):
                pieces = report[FIRST_SUM:].reshape(len(subtrees[index]), sums.double)
                places |= dict(zip(subtrees[index], pieces, strict=True))
            self._additions, _ = joining_additions(places, 0, shards)

    def note(self, failed: bool) -> None:
        """Take down how this rank's computing went: whether the sums are no good."""
        self._own[FAILED] = failed

    def send(self) -> Requests:
        """The others': tell the driver."""
        np.concatenate(self._kept, out=self._own[FIRST_SUM:])
        return self._team.report(self._own)

    def expect(self) -> Requests:
        """The driver's: what it waits for."""
        return self._team.reports(self.received)

    def add_up(self) -> None:
        """The driver's: add along the tree what has come."""
        for into, other in self._additions:
            np.add(into, other, out=into)

    @property
    def has_failed(self) -> bool:
        """The driver's: whether any rank's computing failed."""
        return any(each[FAILED] for each in (self._own, *self.received))


def _shares(slices: list[slice]) -> tuple[list[int], list[int]]:
    """How many numbers each slice has, and where it begins."""
    return [_length(each) for each in slices], [each.start for each in slices]


def _length(piece: slice) -> int:
    return int(piece.stop - piece.start)
