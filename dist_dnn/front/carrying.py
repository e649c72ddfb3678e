"""The columns of a table that stand beside the predictions for its rows."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from dist_dnn.data.columns import missing_column
from dist_dnn.data.sources import Ahead, Source, type_name
from dist_dnn.errors import InputError
from dist_dnn.shards import CHUNK_ROWS

GROUP_BYTES = 2**26
"""So many bytes of columns are held at a time, and what is read at once."""


def check_columns(source: Source, names: Sequence[str], predicted: Sequence[str]) -> None:
    """Check that a Parquet file can have these columns beside predictions.

    Args:
        names: columns of the source.
        predicted: the names of the columns of predictions.

    Raises:
        InputError: one is missing, asked for twice, called like one of predictions, or of a type
            that Parquet does not have.
    """
    for position, name in enumerate(names):
        if name in names[:position]:
            raise InputError(f"--columns has {name!r} more than once; leave one of them")
        if name not in source.schema.names:
            raise missing_column(source.schema, name, source.name)
        if name in predicted:
            raise InputError(
                f"--columns has {name!r}, which is the name of a column of predictions; take it "
                f"out there, or rename it in {source.name}"
            )
        field = source.schema.field(name)
        if not _is_writable(field):
            raise InputError(
                f"--columns has {name!r}, whose type {type_name(field.type)} cannot be written to "
                f"a Parquet file; take it out there"
            )


def _is_writable(field: Any) -> bool:
    """Whether Parquet has the type of a column, which only writing tells."""
    import pyarrow.parquet as parquet

    try:
        table = pa.table([pa.nulls(1, field.type)], schema=pa.schema([field]))
        parquet.write_table(table, pa.BufferOutputStream())
    except pa.ArrowNotImplementedError:
        return False
    except pa.ArrowInvalid:
        pass  # it is the null that was tried which the type forbids
    return True


def beside(
    source: Source, names: Sequence[str], predictions: Iterator[pa.RecordBatch]
) -> Iterator[pa.Table]:
    """Put columns of the source before the predictions for its rows.

    Args:
        source: is read once, forwards.
        predictions: for all rows, in order.

    Yields:
        As many rows as come at a time, or fewer where the columns take much memory.

    Raises:
        InputError: the source cannot be read.
    """
    carried = _Carried(source, names)
    for batch in predictions:
        done = 0
        while done < batch.num_rows:
            table = carried.take(batch.num_rows - done)
            part = batch.slice(done, table.num_rows)
            for field, column in zip(part.schema, part.columns, strict=True):
                table = table.append_column(field, pa.chunked_array([column]))
            yield table
            done += table.num_rows


class _Carried:
    """Some columns of a source, read forwards."""

    def __init__(self, source: Source, names: Sequence[str]) -> None:
        self._schema = pa.schema([source.schema.field(name) for name in names])
        self._ahead = Ahead(source.batches(names, 0, source.rows, CHUNK_ROWS), source.name)

    def take(self, most: int) -> pa.Table:
        """The next rows, of which there are some: up to so many, and one at least."""
        batches: list[pa.RecordBatch] = []
        size = 0
        while most > 0 and size < GROUP_BYTES:
            batches.append(self._ahead.take(most))
            most -= batches[-1].num_rows
            size += _bytes(batches[-1])
        return pa.Table.from_batches(batches, self._schema)


def _bytes(batch: pa.RecordBatch) -> int:
    """Of the rows, without dictionaries: batches have those in common, mostly."""
    columns = (
        column.indices if isinstance(column, pa.DictionaryArray) else column
        for column in batch.columns
    )
    return sum(column.nbytes for column in columns)
