"""Which rows are held out for validation, by a stable hash of (seed, row number), or as marked."""

import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
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


def held_out_by_class(seed: int, fraction: float, classes: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Whether each row is held out, as ⌊fraction · n + ½⌋ of the n rows of each class are.

    They are those with the lowest hashes, so that a greater fraction holds out the same rows and
    more. One row of each class stays. While it runs, it takes 8 bytes a row.

    Args:
        classes: the class number of each row, (m,).

    Returns:
        (m,)
    """
    counts = np.bincount(classes)
    chosen = np.minimum(np.floor(fraction * counts + 0.5).astype(np.int64), counts - 1)
    highest = np.zeros(len(counts), np.uint64)
    by_class = _hashes_by_class(seed, classes, counts)
    for number, hashes in enumerate(np.split(by_class, np.cumsum(counts)[:-1])):
        if chosen[number] > 0:
            hashes.partition(chosen[number] - 1)
            highest[number] = hashes[chosen[number] - 1]
    mask = np.zeros(len(classes), np.bool_)
    for start in range(0, len(classes), HASHED_ROWS):
        piece = classes[start : start + HASHED_ROWS]
        bits = random_bits(seed, start, start + len(piece))
        mask[start : start + len(piece)] = (bits <= highest[piece]) & (chosen[piece] > 0)
    return mask


def _hashes_by_class(
    seed: int, classes: NDArray[np.int32], counts: NDArray[np.int64]
) -> NDArray[np.uint64]:
    """The bits of all rows, (m,), class after class."""
    hashes = np.zeros(len(classes), np.uint64)
    ends = np.cumsum(counts) - counts  # of what is there of each class
    for start in range(0, len(classes), HASHED_ROWS):
        piece = classes[start : start + HASHED_ROWS]
        order = piece.argsort(kind="stable")
        new = np.bincount(piece, minlength=len(counts))
        first = np.repeat(np.cumsum(new) - new, new)  # of the same class, in this piece
        places = np.repeat(ends, new) + np.arange(len(piece)) - first
        hashes[places] = random_bits(seed, start, start + len(piece))[order]
        ends += new
    return hashes


@dataclass(frozen=True)
class Rows:
    """Some rows of a source: all, those held out, or those kept for training.

    A row has a number in the source, and a position among the selected rows; both count from 0,
    and positions ascend with numbers. Made by ``all``, ``kept``, ``held_out`` and ``marked``.

    Args:
        total: the rows of the source.
        part: which of them.
        seed: of the hash.
        fraction: of the rows held out, in (0, 1); callers see to that.
        marks: where there are any, a bit for each row instead of a hash: whether it is held out.
    """

    total: int
    part: Literal["all", "kept", "held_out"]
    seed: int
    fraction: float
    marks: bytes = field(default=b"", repr=False)

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

    @classmethod
    def marked(cls, mask: NDArray[np.bool_]) -> tuple["Rows", "Rows"]:
        """The rows that are left for training, and those held out, which the mask (m,) says."""
        marks = np.packbits(mask).tobytes()
        return cls(len(mask), "kept", 0, 0.0, marks), cls(len(mask), "held_out", 0, 0.0, marks)

    @property
    def count(self) -> int:
        """How many rows are selected."""
        return self.total if self.part == "all" else int(self._counts_before[-1])

    def mask(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Whether each of the row numbers [start, stop) is selected; (stop - start,)."""
        if self.part == "all":
            return np.ones(stop - start, dtype=np.bool_)
        is_held_out = (
            _unpacked(self.marks, start, stop)
            if self.marks
            else held_out(self.seed, self.fraction, start, stop)
        )
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
            "marks": base64.b64encode(zlib.compress(self.marks)).decode() if self.marks else "",
        }

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> "Rows":
        """The same rows in another process."""
        marks = base64.b64decode(description["marks"])
        return cls(**{**description, "marks": zlib.decompress(marks) if marks else b""})

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


def _unpacked(marks: bytes, start: int, stop: int) -> NDArray[np.bool_]:
    """The bits [start, stop), (stop - start,)."""
    packed = np.frombuffer(marks, np.uint8)[start // 8 : -(-stop // 8)]
    return np.unpackbits(packed)[start % 8 :][: stop - start].astype(np.bool_)
