"""A data set as a worker sees it: the rows of its shards, read when needed, then standardised."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dist_dnn.data.categories import to_dictionary
from dist_dnn.data.columns import Column
from dist_dnn.data.features import Features
from dist_dnn.data.holdout import Rows
from dist_dnn.data.sources import BATCH_ROWS, Ahead, Source, is_narrow, reopen, widened
from dist_dnn.data.targets import Target, weighing
from dist_dnn.data.weights import ALL_ALIKE, Weights, row_weights, weights_of
from dist_dnn.shards import CHUNK_ROWS, shard_range

PIECE_ROWS = 2**15
"""So many rows are measured and standardised at a time; part of the numerics."""

READ_NUMBERS = 2**22
"""A shard's rows are read by so many numbers at a time, if that makes BATCH_ROWS or more."""

READ_ROWS = 2**17
"""But by no more rows than that."""


class Shard:
    """The standardised rows of one shard.

    Args:
        X: float32 (rows, n[0]).
        truth: int64 class numbers (rows,), or float32 values (rows, n[L]).
        outputs: n[L].
        weights: what they count.

    Attributes:
        rows: how many there are.
        bytes_beside_X: of truth and weights.
        bytes: that they take.
    """

    def __init__(
        self,
        X: NDArray[np.float32],
        truth: NDArray[Any],
        outputs: int,
        weights: Weights = ALL_ALIKE,
    ) -> None:
        self.X = X
        self.truth = truth
        self.weights = weights
        self.rows = len(X)
        arrays = {id(each): each.nbytes for each in (truth, *weights) if each is not None}
        self.bytes_beside_X = sum(arrays.values())
        self.bytes = X.nbytes + self.bytes_beside_X
        # A class number becomes its column of Y by a look-up.
        self._columns = np.eye(outputs, dtype=np.float32) if truth.ndim == 1 else None

    def gather(self, chosen: NDArray[np.int64], X: NDArray[np.float32]) -> None:
        """Copy chosen rows into X (n[0], m), whose transpose is contiguous."""
        # mode="clip" lets np.take write into ``out`` without a buffer; all numbers are in range.
        np.take(self.X, chosen, axis=0, out=X.T, mode="clip")

    def encode(self, truth: NDArray[Any], Y: NDArray[np.float32]) -> None:
        """Write the truth of m rows, as the shard has it, into Y (n[L], m), which is contiguous."""
        if self._columns is None:
            np.copyto(Y, truth.T)
        else:
            np.take(self._columns, truth, axis=1, out=Y, mode="clip")


class Dataset:
    """The selected rows of a source, by logical shard.

    Args:
        source: where the rows are.
        rows: which of them.
        columns: the features.
        targets: the names of the target's columns; none where it is not read.
        shards: S.
        weight: the name of the column that has the rows' weights; None where all count 1.
    """

    def __init__(
        self,
        source: Source,
        rows: Rows,
        columns: tuple[Column, ...],
        targets: tuple[str, ...],
        shards: int,
        weight: str | None = None,
    ) -> None:
        self.source = source
        self.rows = rows
        self.columns = columns
        self.targets = targets
        self.shards = shards
        self.weight = weight
        self._tables: dict[int, pa.Table] = {}
        self._shards: dict[int, Shard] = {}
        self._values: dict[int, NDArray[np.float64]] = {}
        self._reader: Reader | None = None

    @property
    def names(self) -> list[str]:
        """The columns that are read."""
        features = [column.name for column in self.columns]
        weight = [] if self.weight is None else [self.weight]
        return list(dict.fromkeys([*features, *self.targets, *weight]))

    def origin(self) -> dict[str, Any]:
        """Where the rows come from, as a checkpoint remembers it."""
        return {
            "files": [list(file) for file in self.source.files()],
            "rows": self.rows.count,
            "columns": {name: str(self.source.schema.field(name).type) for name in self.names},
        }

    def description(self) -> dict[str, Any]:
        """What ``from_description`` makes it from, as JSON can say it."""
        return {
            "source": self.source.description(),
            "rows": self.rows.description(),
            "columns": [list(column) for column in self.columns],
            "targets": list(self.targets),
            "shards": self.shards,
            "weight": self.weight,
        }

    @classmethod
    def from_description(
        cls, description: Mapping[str, Any], buffer: pa.Buffer | None
    ) -> "Dataset":
        """The same data set in another process; ``buffer`` holds a table given in memory."""
        return cls(
            reopen(description["source"], buffer),
            Rows.from_description(description["rows"]),
            tuple(Column(*column) for column in description["columns"]),
            tuple(description["targets"]),
            description["shards"],
            description["weight"],
        )

    def pieces(self, shard: int) -> Iterator[tuple[pa.Table, NDArray[np.int64]]]:
        """The shard's rows in pieces of PIECE_ROWS, with their numbers in the source."""
        table = self.table(shard)
        numbers = self._numbers(shard)
        for first in range(0, len(numbers), PIECE_ROWS):
            yield table.slice(first, PIECE_ROWS), numbers[first : first + PIECE_ROWS]

    def table(self, shard: int) -> pa.Table:
        """The shard's rows as they were read; columns of categories each with one dictionary."""
        if shard not in self._tables:
            self._tables[shard] = self._read(shard)
        return self._tables[shard]

    def shard(self, shard: int, features: Features, target: Target) -> Shard:
        """The shard's rows standardised; what ``table`` kept of them is let go.

        Raises:
            InputError: a value that cannot be used, with its column and row.
        """
        if shard not in self._shards:
            self._shards[shard] = self._standardise(shard, features, target)
            self._tables.pop(shard, None)
        return self._shards[shard]

    def weights(
        self,
        batch: pa.RecordBatch | pa.Table,
        numbers: NDArray[np.int64],
        target: Target | None,
        encoded: NDArray[Any] | None = None,
    ) -> Weights:
        """What the rows of a piece count.

        Args:
            target: of which the classes may have weights.
            encoded: what the target's column is, if that is known.

        Raises:
            InputError: a value that cannot be used, with its row.
        """
        name, rows = self.source.name, None
        if self.weight is not None:
            rows = row_weights(batch.column(self.weight), self.weight, numbers, name)
        of_classes = None if target is None else target.class_weights
        if target is not None and of_classes is not None and encoded is None:
            encoded = target.encode(batch, numbers, name)
        return weights_of(rows, encoded, of_classes, numbers, name)

    def training_weights(self, shard: int, target: Target | None) -> NDArray[np.float64] | None:
        """What the shard's rows count in training, (rows,); None where each counts 1.

        Raises:
            InputError: a value that cannot be used, with its row.
        """
        if self.weight is None and weighing(target) is None:
            return None
        pieces = [np.zeros(0)]
        for batch, numbers in self.pieces(shard):
            training = self.weights(batch, numbers, target).training
            assert training is not None
            pieces.append(training.astype(np.float64))
        return np.concatenate(pieces)

    def values(self, shard: int, target: Target) -> NDArray[np.float64]:
        """The targets of the shard's rows in their own units, for regression; (n[L], rows).

        Before ``shard`` they are had from what is read for it, later their columns are read again.

        Raises:
            InputError: a value that cannot be used, with its row.
        """
        if shard not in self._values:
            read = self
            if shard in self._shards:
                read = Dataset(self.source, self.rows, (), self.targets, self.shards)
            in_own_units = target.in_own_units()
            pieces = [
                in_own_units.encode(batch, numbers, self.source.name).T
                for batch, numbers in read.pieces(shard)
            ]
            values = np.concatenate([np.zeros((target.outputs, 0)), *pieces], axis=1)
            self._values[shard] = np.ascontiguousarray(values)
        return self._values[shard]

    def _standardise(self, shard: int, features: Features, target: Target) -> Shard:
        first, stop = shard_range(self.rows.count, shard, self.shards)
        X = np.zeros((stop - first, features.size), np.float32)
        if target.task == "multiclass":
            truth: NDArray[Any] = np.zeros(stop - first, np.int64)
        else:
            truth = np.zeros((stop - first, target.outputs), np.float32)
        of_classes = target.class_weights is not None
        weights = Weights.room(len(X), of_rows=self.weight is not None, of_classes=of_classes)
        done = 0
        for batch, numbers in self.pieces(shard):
            piece = slice(done, done + batch.num_rows)
            features.fill(batch, numbers, self.source.name, X[piece], is_zero=True)
            values = target.encode(batch, numbers, self.source.name)
            truth[piece] = values.reshape(truth[piece].shape)
            weights.write(piece, self.weights(batch, numbers, target, values))
            if weights.scoring is not None:  # what counts nowhere must not become infinite or NaN
                is_left_out = weights.scoring[piece] == 0
                X[piece][is_left_out], truth[piece][is_left_out] = 0, 0
            done = piece.stop
        return Shard(X, truth, target.outputs, weights)

    def _numbers(self, shard: int) -> NDArray[np.int64]:
        return self.rows.numbers(*shard_range(self.rows.count, shard, self.shards))

    def rest(self) -> None:
        """Let go of what is open to read on, when no more shards will be asked for, mostly."""
        self._reader = None

    def _unread(self) -> "Dataset":
        """The same data set without what was read of it: no reader keeps that alive."""
        return Dataset(self.source, self.rows, self.columns, self.targets, self.shards, self.weight)

    def _read_rows(self) -> int:
        """How many rows are read at a time."""
        width = 1 + sum(column.width for column in self.columns)
        return min(max(BATCH_ROWS, READ_NUMBERS // width), READ_ROWS)

    def _read(self, shard: int) -> pa.Table:
        schema = pa.schema([self.source.schema.field(name) for name in self.names])
        first, stop = shard_range(self.rows.count, shard, self.shards)
        # Shards are read in their order, mostly: what is before them in a file is decoded once.
        reader = self._reader or Reader(
            self._unread(),
            self._read_rows(),
            [column.name for column in self.columns if column.is_category],
        )
        self._reader = reader if stop < self.rows.count else None
        batches = reader.batches(first, stop)
        table = pa.Table.from_batches(batches, batches[0].schema if batches else schema)
        for column in self.columns:
            if column.is_category:  # which are strings, mostly, and then take little memory
                place = table.column_names.index(column.name)
                values = to_dictionary(table.column(place))
                table = table.set_column(place, column.name, values)
        return table

    def batches(
        self,
        first: int,
        stop: int,
        batch_rows: int = BATCH_ROWS,
        categories: Collection[str] = (),
    ) -> Iterator[pa.RecordBatch]:
        """The selected rows at the positions [first, stop), as they come from the source.

        But their dictionaries can be put together.
        """
        if first >= stop:
            return
        is_any_narrow = any(is_narrow(self.source.schema.field(name).type) for name in self.names)
        row = int(self.rows.numbers(first, first + 1)[0])
        [last] = self.rows.numbers(stop - 1, stop)
        for batch in self.source.batches(self.names, row, int(last) + 1, batch_rows, categories):
            chosen = self.rows.mask(row, row + batch.num_rows)
            row += batch.num_rows
            batch = widened(batch) if is_any_narrow else batch
            yield batch if chosen.all() else batch.filter(pa.array(chosen))


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    [batch] = table.combine_chunks().to_batches()
    return batch


class Reader:
    """Reads the rows of a data set forwards, without keeping them.

    Args:
        dataset: whose rows they are.
        batch_rows: so many are read at a time; small batches have their memory again and again,
            and stay near.
        categories: columns of which text may come as dictionaries.
    """

    def __init__(
        self, dataset: Dataset, batch_rows: int = CHUNK_ROWS, categories: Collection[str] = ()
    ) -> None:
        self.dataset = dataset
        self.batch_rows = batch_rows
        self.categories = categories
        self._ahead = Ahead(iter(()), dataset.source.name)
        self._position = -1

    def read(self, first: int, stop: int) -> tuple[pa.RecordBatch, NDArray[np.int64]]:
        """The rows at the positions [first, stop), with their numbers in the source.

        It is cheap where they follow those that were read before.

        Raises:
            InputError: a file cannot be read.
        """
        table = pa.Table.from_batches(self.batches(first, stop))
        return _one_batch(table), self.dataset.rows.numbers(first, stop)

    def batches(self, first: int, stop: int) -> list[pa.RecordBatch]:
        """The rows at the positions [first, stop), as they come from the source."""
        if first != self._position:
            batches_from = self.dataset.batches(
                first, self.dataset.rows.count, self.batch_rows, self.categories
            )
            self._ahead = Ahead(batches_from, self.dataset.source.name)
        missing, batches = stop - first, []
        while missing > 0:
            batches.append(self._ahead.take(missing))
            missing -= batches[-1].num_rows
        self._position = stop
        return batches
