"""Which rows are held out for validation, by a stable hash of (seed, row number)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

HASHED_ROWS = 65_536
"""Rows are hashed and counted by so many at a time, which bounds the memory."""


def random_bits(seed: int, start: int, stop: int) -> NDArray[np.uint64]:
    """64 random bits for each row of [start, stop), the same on every machine and for ever.

    Row r gets output r of SplitMix64 started at the seed (modulo 2^64): Steele, Lea and Flood,
    "Fast splittable pseudorandom number generators", OOPSLA 2014, with the constants of
    Sebastiano Vigna's splitmix64.c. Its state only counts, so that any row can be had alone.

    Returns:
        (stop - start,)
    """
    state = np.arange(start + 1, stop + 1, dtype=np.uint64)
    state *= np.uint64(0x9E3779B97F4A7C15)
    state += np.uint64(seed % 2**64)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def held_out(seed: int, fraction: float, start: int, stop: int) -> NDArray[np.bool_]:
    """Whether each row of [start, stop) is held out, as about ``fraction`` of all rows are.

    A greater fraction holds out the same rows and more.

    Returns:
        (stop - start,)
    """
    uniform = (random_bits(seed, start, stop) >> np.uint64(11)) * 2.0**-53  # exact, in [0, 1)
    return uniform < fraction


@dataclass(frozen=True)
class Rows:
    """Some rows of a source: all, those held out, or those kept for training.

    A row has a number in the source, and a position among the selected rows; both count from 0,
    and positions ascend with numbers. Made by ``all``, ``kept`` and ``held_out``.

    Args:
        total: the rows of the source.
        part: which of them.
        seed: of the hash.
        fraction: of the rows held out, in (0, 1); callers see to that.
    """

    total: int
    part: Literal["all", "kept", "held_out"]
    seed: int
    fraction: float

    @classmethod
    def all(cls, total: int) -> "Rows":
        """Every row."""
        return cls(total, "all", 0, 0.0)

    @classmethod
    def kept(cls, total: int, seed: int, fraction: float) -> "Rows":
        """The rows that are left for training when a fraction is held out."""
        return cls(total, "kept", seed, fraction)

    @classmethod
    def held_out(cls, total: int, seed: int, fraction: float) -> "Rows":
        """The rows that are held out."""
        return cls(total, "held_out", seed, fraction)

    @property
    def count(self) -> int:
        """How many rows are selected."""
        return self.total if self.part == "all" else int(self._counts_before[-1])

    def mask(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Whether each of the row numbers [start, stop) is selected; (stop - start,)."""
        if self.part == "all":
            return np.ones(stop - start, dtype=np.bool_)
        is_held_out = held_out(self.seed, self.fraction, start, stop)
        return is_held_out if self.part == "held_out" else ~is_held_out

    def numbers(self, first: int, last: int) -> NDArray[np.int64]:
        """The row numbers, ascending, of the positions [first, last); (last - first,).

        Raises:
            IndexError: not 0 ≤ first ≤ last ≤ count.
        """
        if not 0 <= first <= last <= self.count:
            raise IndexError(f"positions {first} to {last} of {self.count} selected rows")
        if self.part == "all" or first == last:
            return np.arange(first, last, dtype=np.int64)
        before = self._counts_before
        start = int(before.searchsorted(first, side="right")) - 1
        stop = int(before.searchsorted(last, side="left"))
        numbers = np.concatenate([self._piece(piece) for piece in range(start, stop)])
        return numbers[first - before[start] : last - before[start]]

    def description(self) -> dict[str, Any]:
        """What ``from_description`` makes it from, as JSON can say it."""
        return {
            "total": self.total,
            "part": self.part,
            "seed": self.seed,
            "fraction": self.fraction,
        }

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> "Rows":
        """The same rows in another process."""
        return cls(**description)

    @cached_property
    def _counts_before(self) -> NDArray[np.int64]:
        """How many rows are selected before each piece of HASHED_ROWS rows, and in all."""
        pieces = -(-self.total // HASHED_ROWS)
        counts = [0, *(len(self._piece(piece)) for piece in range(pieces))]
        return np.cumsum(counts, dtype=np.int64)

    def _piece(self, piece: int) -> NDArray[np.int64]:
        """The selected row numbers of one piece."""
        start = piece * HASHED_ROWS
        return np.flatnonzero(self.mask(start, min(start + HASHED_ROWS, self.total))) + start
