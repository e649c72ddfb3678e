"""What the commands train, evaluate and predict do."""

import json
import sys
from pathlib import Path
from typing import Any

from dist_dnn.arithmetic import one_blas_thread
from dist_dnn.data.sources import open_source
from dist_dnn.errors import InputError, RunError
from dist_dnn.evaluation import Evaluator
from dist_dnn.front.api import import_launch, train
from dist_dnn.hyperparameters import Hyperparameters, read_toml
from dist_dnn.model import Model
from dist_dnn.preparation import load_rows
from dist_dnn.rounds import Group


def train_command(chosen: Any, given: dict[str, Any]) -> None:
    """Train, and say on standard error what came of it and what to do next.

    Args:
        chosen: the command line.
        given: the hyperparameters that flags name.
    """
    target, hyperparameters = _experiment(chosen.config, chosen.target, given)
    run = train(
        chosen.data,
        target,
        hyperparameters,
        workers=chosen.workers,
        backend=chosen.backend,
        out=chosen.out,
        progress=chosen.progress,
        allow_mixed_cpus=chosen.allow_mixed_cpus,
    )
    if chosen.progress != "none":
        print(
            f"digest {run.digest}\nmodel in {chosen.out}; next: dist-dnn evaluate {chosen.out} DATA",
            file=sys.stderr,
        )


def _experiment(
    config: str | None, target: str | None, given: dict[str, Any]
) -> tuple[str, Hyperparameters]:
    """The target and the hyperparameters: the file's, which must be good by itself, then flags'."""
    values: dict[str, Any] = {}
    if config is not None:
        values = read_toml(config)
        in_file = values.pop("target", None)
        if in_file is not None and not isinstance(in_file, str):
            raise InputError(f"{config}: target must be the name of a column, not {in_file!r}")
        target = target or in_file
        Hyperparameters.from_mapping(values, config)
    if target is None:
        raise InputError("no target: say with --target COLUMN which column to predict")
    return target, Hyperparameters.from_mapping(values | given, "the command line")


def evaluate_command(chosen: Any) -> None:
    """Print a run's scores on a table as one JSON object on standard output."""
    launch = import_launch()
    model = Model.load(chosen.run)
    settings = launch.Settings(chosen.backend, chosen.workers, chosen.allow_mixed_cpus)

    def drive(group: Group) -> dict[str, float | int]:
        load_rows(group, "evaluation", open_source(chosen.data), model.features, model.target)
        evaluate = Evaluator(group, "evaluation", model.network, model.features, model.target)
        return evaluate(model.parameters).to_json()

    print(json.dumps(launch.run(settings, model.shards, drive)))


def predict_command(chosen: Any) -> None:
    """Write a run's predictions for the rows of a table, in order, as a Parquet file."""
    model = Model.load(chosen.run)
    source = open_source(chosen.data)
    model.features.check_schema(source.schema, source.name)
    with one_blas_thread():
        write_parquet(Path(chosen.out), model.predict(source))


def write_parquet(path: Path, batches: Any) -> None:
    """Write record batches as a Parquet file, whole or not at all."""
    import pyarrow.parquet as parquet

    if path.is_dir():
        raise InputError(f"{path} is a folder: give --out the name of a file")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path} cannot be written: there is no folder {path.absolute().parent}")
    beside = path.with_name(f".{path.name}.writing")
    try:
        first = next(batches)
        with parquet.ParquetWriter(beside, first.schema) as writer:
            writer.write_batch(first)
            for batch in batches:
                writer.write_batch(batch)
        beside.replace(path)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        beside.unlink(missing_ok=True)
