"""Categories: the values of a column that each fill a row of X, with 1 where they stand."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dist_dnn.data.numbers import in_one, to_numpy

types: Any = pa.types

NONE = -1
"""The place of a value that no row of X stands for."""


@dataclass(frozen=True)
class Vocabulary:
    """The categories of one column, each a row of X; stored with the model.

    Attributes:
        values: as text, in ascending order of the values.
        has_null: whether a missing value is a category, which comes after the values.
        has_other: whether one more, the last, stands for rare and unseen values. Where training
            had none of these its weights would never be trained: then unseen values fill X with 0.
    """

    values: tuple[str, ...]
    has_null: bool = False
    has_other: bool = False

    @property
    def width(self) -> int:
        """How many rows of X there are."""
        return len(self.values) + self.has_null + self.has_other

    def places(self, values: Any) -> NDArray[np.int64]:
        """Which category each value is of a pyarrow array, or chunked array; NONE where it is none.

        Returns:
            (rows,)
        """
        import pyarrow.compute as pc

        values = in_one(values)
        if not types.is_dictionary(values.type) or len(values.dictionary) > len(values):
            values = to_dictionary(values)
        other = self.width - 1 if self.has_other else NONE
        null = len(self.values) if self.has_null else other
        texts = _texts(values.dictionary)
        place_of: Any = pc.index_in(texts, pa.array(self.values, pa.string()))
        place_of = np.append(to_numpy(place_of.fill_null(other)).astype(np.int64), null)
        if texts.null_count:
            place_of[:-1][to_numpy(texts.is_null())] = null
        indices = values.indices.cast(pa.int64())
        places: NDArray[np.int64] = place_of[to_numpy(indices.fill_null(len(texts)))]
        return places

    def fill(self, values: Any, out: NDArray[np.float32]) -> None:
        """Write 1 for the category of each value to ``out`` (rows, width), where all is 0."""
        places = self.places(values)
        rows = np.arange(len(places))
        if not self.has_other:
            is_one = places != NONE
            places, rows = places[is_one], rows[is_one]
        out[rows, places] = 1


def to_dictionary(values: Any) -> Any:
    """A pyarrow array, or chunked array, with each value once in a dictionary.

    A null, and a NaN, is none of them; 0.0 and −0.0 are one.
    """
    if isinstance(values, pa.ChunkedArray):
        values = in_one(values.unify_dictionaries())
    if types.is_dictionary(values.type):
        if len(values.dictionary) <= len(values):
            return _without_doubles(values)
        values = values.dictionary_decode()
    if types.is_floating(values.type):
        values = pa.array(to_numpy(values) + 0.0, from_pandas=True)
    return values.dictionary_encode()


def _without_doubles(values: Any) -> Any:
    """A dictionary array whose dictionary has what ``to_dictionary`` promises."""
    places = to_dictionary(values.dictionary)
    indices = values.indices
    if places.null_count or len(places.dictionary) < len(places):
        indices = places.indices.take(indices)
    return pa.DictionaryArray.from_arrays(indices, places.dictionary)


def _texts(values: Any) -> Any:
    """Different text for different values, the same for equal ones of another width; null of NaN.

    Whole numbers of floating point are written like integers.
    """
    if types.is_floating(values.type):
        values = pa.array(to_numpy(values) + 0.0, from_pandas=True)
    return values.cast(pa.string())


def in_order(texts: set[str], kind: str) -> tuple[str, ...]:
    """Values of one kind, as text, in ascending order."""
    if kind == "integer":
        return tuple(sorted(texts, key=int))
    return tuple(sorted(texts, key=float)) if kind == "floating" else tuple(sorted(texts))


def count(values: Any, weights: NDArray[np.float64] | None = None) -> tuple[Any, NDArray[Any]]:
    """The values in what ``to_dictionary`` made, as text, and how many there are of each.

    Args:
        weights: of the rows, which are added up instead, if given.
    """
    values = in_one(values)
    indices = values.indices
    if weights is not None and indices.null_count:
        weights = weights[to_numpy(indices.is_valid())]
    counts = np.bincount(to_numpy(indices.drop_null()), weights, len(values.dictionary))
    return _texts(values.dictionary), counts
