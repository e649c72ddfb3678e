"""The command predict: a run's predictions for the rows of a table, as a Parquet file."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dist_dnn.data.sources import open_source
from dist_dnn.errors import InputError, RunError
from dist_dnn.files import atomically
from dist_dnn.front.api import import_launch
from dist_dnn.front.carrying import beside, check_columns
from dist_dnn.front.commands import reach_of
from dist_dnn.front.progress import counting
from dist_dnn.model import Model
from dist_dnn.prediction import predictions


def predict_command(chosen: Any) -> None:
    """Write a run's predictions for the rows of a table, in order, as a Parquet file."""
    out = Path(chosen.out)
    import_launch().run(
        reach_of(chosen),
        lambda reach: _predict(chosen.run, chosen.data, chosen.columns, out, reach),
    )


def _predict(run: str, data: str, columns: Sequence[str], out: Path, reach: Any) -> None:
    """In the process that drives, which alone writes."""
    model = Model.load(run)
    check_new_file(out)
    source = open_source(data)
    none = np.zeros((model.target.outputs, 0), np.float32)
    check_columns(source, columns, model.predictions(none).schema.names)
    with reach.group(model.shards) as group, counting(source.rows, "predicted") as report:
        found = predictions(group, model, source, out.absolute().parent, report)
        write_parquet(out, beside(source, columns, found) if columns else found)


def check_new_file(path: Path) -> None:
    """Raise InputError unless a file can be written here, in the place of an older one if any."""
    folder = path.absolute().parent
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder: give --out the name of a file")
    if os.path.exists(path) and not os.path.isfile(path):
        raise InputError(f"{path} is no regular file: give --out another name")
    if not os.path.isdir(folder):
        raise InputError(f"{path} cannot be written: there is no folder {folder}; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{path} cannot be written: {folder} is not writable; choose another")


def write_parquet(path: Path, parts: Iterator[pa.RecordBatch | pa.Table]) -> None:
    """Write record batches or tables, a row group each, as a Parquet file, whole or not at all.

    Raises:
        RunError: it cannot be written.
    """
    import pyarrow.parquet as parquet

    with _writing(path):
        first = next(parts)
        # Few probabilities occur twice: a dictionary of them would cost time and room.
        names = _leaves(first.schema)
        dictionaries: Any = [name for name in names if not name.startswith("probability_")]
        with (
            atomically(path) as made,
            parquet.ParquetWriter(made, first.schema, use_dictionary=dictionaries) as writer,
        ):
            writer.write(first)
            for part in parts:
                writer.write(part)


def _leaves(schema: pa.Schema) -> list[str]:
    """The names of the columns of a Parquet file; a struct has several, a list one of another."""
    import pyarrow.parquet as parquet

    sink = pa.BufferOutputStream()
    parquet.write_table(schema.empty_table(), sink)
    written = parquet.read_metadata(pa.BufferReader(sink.getvalue())).schema
    return [written.column(number).path for number in range(len(written))]


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Say of which file it was that it cannot be written."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}") from error
    except pa.ArrowException as error:  # a value that Parquet does not have
        raise RunError(f"{path} cannot be written: {' '.join(str(error).split())}") from error
