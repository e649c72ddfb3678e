"""What the commands train, evaluate and predict do."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from dist_dnn.arithmetic import one_blas_thread, quiet_overflow
from dist_dnn.data.sources import location_name, open_source
from dist_dnn.errors import InputError, RunError
from dist_dnn.evaluation import Evaluator
from dist_dnn.files import atomically
from dist_dnn.front.api import import_launch, run_name, train
from dist_dnn.hyperparameters import Hyperparameters, read_toml
from dist_dnn.model import Model
from dist_dnn.preparation import load_rows

ROW_GROUP_ROWS = 2**17
"""About so many rows make a row group of predictions."""


def train_command(chosen: Any, given: dict[str, Any]) -> None:
    """Train, and say on standard error what came of it and what to do next.

    Args:
        chosen: the command line.
        given: the hyperparameters that flags name.
    """
    target, values = read_experiment(chosen.config, chosen.target, given, chosen.resume)
    run = train(
        chosen.data,
        target,
        values,
        workers=chosen.workers,
        backend=chosen.backend,
        out=chosen.out,
        progress=chosen.progress,
        resume=chosen.resume,
        checkpoint_every=chosen.checkpoint_every,
        keep=chosen.keep,
        max_failures=chosen.max_failures,
        step_timeout=chosen.step_timeout,
        allow_mixed_cpus=chosen.allow_mixed_cpus,
        address=chosen.address,
        cpus_per_worker=chosen.cpus_per_worker,
        start_timeout=chosen.start_timeout,
    )
    if chosen.progress != "none" and run.digest is not None:
        out = location_name(chosen.out)
        next_command = f"dist-dnn evaluate {out} DATA"
        print(f"digest {run.digest}\nmodel in {out}; next: {next_command}", file=sys.stderr)


def read_experiment(
    config: str | None, target: str | None, given: dict[str, Any], resume: bool | str = False
) -> tuple[str | None, dict[str, Any]]:
    """The target and the hyperparameters: the file's, which must be good by itself, then flags'.

    Where a run is resumed, they need only be good together with its own.

    Raises:
        InputError: a value that cannot be used, with where it stands.
    """
    values: dict[str, Any] = {}
    if config is not None:
        values = read_toml(config)
        in_file = values.pop("target", None)
        if in_file is not None and not isinstance(in_file, str):
            raise InputError(f"{config}: target must be the name of a column, not {in_file!r}")
        target = target or in_file
        Hyperparameters.from_mapping(values, config)
    if not resume:
        where = f"{config} with the command line" if config else "the command line"
        Hyperparameters.from_mapping(values | given, where)
    return target, values | given


def reach_of(chosen: Any) -> Any:
    """How the workers are reached, as the command line has it."""
    return import_launch().Settings(
        chosen.backend,
        chosen.workers,
        chosen.allow_mixed_cpus,
        address=chosen.address,
        cpus_per_worker=chosen.cpus_per_worker,
        start_timeout=chosen.start_timeout,
        name=run_name(getattr(chosen, "run", "check")),
        default_workers=chosen.default_workers,
    )


def evaluate_command(chosen: Any) -> None:
    """Print a run's scores on a table as one JSON object on standard output."""
    settings = reach_of(chosen)
    scores = import_launch().run(settings, lambda reach: _scores(chosen.run, chosen.data, reach))
    if scores is None:
        return  # another process has them
    try:
        print(json.dumps(scores, allow_nan=False))
    except ValueError:
        run, data = location_name(chosen.run), location_name(chosen.data)
        raise RunError(f"the loss of {run} on {data} is not finite") from None


def _scores(run: str, data: str, reach: Any) -> dict[str, float | int]:
    model = Model.load(run)
    with reach.group(model.shards) as group:
        load_rows(group, "evaluation", open_source(data), model.features, model.target)
        evaluate = Evaluator(group, "evaluation", model.network, model.features, model.target)
        return evaluate(model.parameters).to_json()


def predict_command(chosen: Any) -> None:
    """Write a run's predictions for the rows of a table, in order, as a Parquet file."""
    model = Model.load(chosen.run)
    out = Path(chosen.out)
    check_new_file(out)
    source = open_source(chosen.data)
    with one_blas_thread(), quiet_overflow():
        write_parquet(out, model.predict(source))


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


def write_parquet(path: Path, batches: Iterator[pa.RecordBatch]) -> None:
    """Write record batches as a Parquet file, whole or not at all."""
    import pyarrow.parquet as parquet

    tables = _row_groups(batches)
    first = next(tables)
    with (
        _writing(path),
        atomically(path) as made,
        parquet.ParquetWriter(made, first.schema) as writer,
    ):
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)


def _row_groups(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Batches together as tables of about ROW_GROUP_ROWS rows."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(each.num_rows for each in waiting) >= ROW_GROUP_ROWS:
            yield pa.Table.from_batches(waiting)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Say of which file it was that it cannot be written."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}") from error
