"""From a table to an experiment: the columns, the target, the held-out rows, the statistics."""

import os
from typing import Any

import pyarrow as pa

from dist_dnn.data.class_weights import Counted, counted, weight_classes
from dist_dnn.data.columns import Column, choose_columns, missing_column
from dist_dnn.data.dataset import Dataset
from dist_dnn.data.deciding import read_target
from dist_dnn.data.features import Features
from dist_dnn.data.fingerprint import content_hash
from dist_dnn.data.fitting import Fit, fit
from dist_dnn.data.holdout import Rows
from dist_dnn.data.sources import Source, open_source
from dist_dnn.data.splitting import split
from dist_dnn.data.targets import Target
from dist_dnn.data.weights import check_weight_column
from dist_dnn.errors import InputError
from dist_dnn.evaluation import Evaluation, evaluation_options
from dist_dnn.hyperparameters import Hyperparameters
from dist_dnn.model import LOSS_OF_TASK
from dist_dnn.nn.network import Network
from dist_dnn.notices import say
from dist_dnn.rounds import Group
from dist_dnn.trainer import TEST, TRAINING, VALIDATION, Experiment


def prepare(
    group: Group,
    data: Any,
    targets: tuple[str, ...],
    hyperparameters: Hyperparameters,
    validation: Any = None,
    test: Any = None,
) -> Experiment:
    """Load the training rows, and those for validation and test, on all workers, and measure them.

    Args:
        group: the workers.
        data: a file, a folder of files, a URI, or a pyarrow Table or Dataset.
        targets: the columns to predict.
        hyperparameters: what to do with them.
        validation: other rows, like ``data``, instead of the hyperparameters' ``validation``.
        test: likewise instead of the hyperparameters' ``test``.

    Raises:
        InputError: something in the data cannot be used as the hyperparameters say.
    """
    source = open_source(data)
    if validation is None:
        validation = hyperparameters.validation
    elif hyperparameters.validation_column is not None:
        raise InputError("validation and validation_column exclude each other: leave one out")
    rows, held_out = split(source, targets, hyperparameters, validation)
    test = hyperparameters.test if test is None else test
    tests = None if test is None else open_source(test, "test")
    others = None
    if validation is not None and held_out is None:
        others = open_source(validation, "validation")
    target = read_target(source, targets, hyperparameters.task, rows)
    weight = hyperparameters.weight
    columns = _columns(source, targets, hyperparameters)
    batch_size = hyperparameters.batch_size_of(rows.count)
    dataset = Dataset(source, rows, columns, targets, group.shards, weight)
    group.load(TRAINING, dataset)
    target = weight_classes(group, TRAINING, target, hyperparameters.class_weight)
    size = counted(group, TRAINING, dataset, target, f"the rows to train on in {source.name}")
    measured, target = _fit(group, columns, target, size, hyperparameters)
    features = measured.features
    origins = {TRAINING: dataset.origin()}
    if held_out is not None:
        validated = Dataset(source, held_out, columns, targets, group.shards, weight)
        group.load(VALIDATION, validated)
        counted(group, VALIDATION, validated, target, f"the rows held out of {source.name}")
        origins[VALIDATION] = validated.origin()
    if others is not None:
        validated = load_rows(group, VALIDATION, others, features, target, weight)
        origins[VALIDATION] = validated.origin()
    network = _network(features, target, hyperparameters)
    if tests is not None:
        tested = load_rows(group, TEST, tests, features, target, weight)
        origins[TEST] = tested.origin()
        # Its rows are read now, since a mistake in them should not be found at the end.
        group.open(Evaluation, evaluation_options(TEST, network, features, target))
    validates = VALIDATION in origins
    return Experiment(
        network, features, target, rows.count, batch_size, validates, origins, measured, weight
    )


def fingerprint(group: Group, experiment: Experiment) -> dict[str, Any]:
    """What tells the rows of an experiment from others: of each data set where and what it is."""
    return {
        name: origin
        | {"content": content_hash(group, name, experiment.features, experiment.target)}
        for name, origin in experiment.origins.items()
    }


def load_rows(
    group: Group,
    name: str,
    source: Source,
    features: Features,
    target: Target,
    weight: str | None = None,
) -> Dataset:
    """Load all rows of a source for a model's features and target; returns them.

    Args:
        weight: the column of the rows' weights; where it is not there all count 1, and a line on
            standard error says so.

    Raises:
        InputError: a column is missing, or of another kind; or no row has weight.
    """
    features.check_schema(source.schema, source.name)
    for column in target.names:
        if column not in source.schema.names:
            raise missing_column(source.schema, column, source.name)
    if weight is not None and weight not in source.schema.names:
        say(f"{source.name} has no weight column {weight!r}: each of its rows counts 1")
        weight = None
    if weight is not None:
        check_weight_column(source.schema, weight, source.name)
    rows = Rows.all(source.rows)
    dataset = Dataset(source, rows, features.columns, target.names, group.shards, weight)
    group.load(name, dataset)
    counted(group, name, dataset, target, source.name)
    return dataset


def without_columns(
    source: Source, targets: tuple[str, ...], hyperparameters: Hyperparameters
) -> pa.Schema:
    """The schema without the columns of weights and of rows to validate on, which are checked.

    Raises:
        InputError: they are not there, are the target, or hold something else.
    """
    schema, weight = source.schema, hyperparameters.weight
    if weight is not None:
        check_weight_column(schema, weight, source.name)
        if weight in targets:
            raise InputError(f"the weight column {weight!r} is the target; give another column")
    for column in (weight, hyperparameters.validation_column):
        if column is not None:
            schema = schema.remove(schema.get_field_index(column))
    return schema


def _columns(
    source: Source, targets: tuple[str, ...], hyperparameters: Hyperparameters
) -> tuple[Column, ...]:
    """The features that the hyperparameters choose."""
    return choose_columns(
        without_columns(source, targets, hyperparameters),
        targets,
        hyperparameters.features,
        source.name,
        hyperparameters.exclude or (),
        hyperparameters.categorical or (),
        hyperparameters.passthrough or (),
    )


def _network(features: Features, target: Target, hyperparameters: Hyperparameters) -> Network:
    """The network between these, of which at least the parameters fit in this machine's memory."""
    network = Network(
        (features.size, *hyperparameters.hidden, target.outputs),
        activation=hyperparameters.activation,
        loss=LOSS_OF_TASK[target.task],
        initialization=hyperparameters.initialization,
    )
    needed = 4 * network.parameter_count
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        sizes = ",".join(map(str, network.layer_sizes[1:-1]))
        raise InputError(
            f"the parameters of hidden layers {sizes} take {needed:.1e} bytes, but this machine "
            f"has {memory:.1e}: choose a smaller --hidden"
        )
    return network


def _fit(
    group: Group,
    columns: tuple[Column, ...],
    target: Target,
    size: Counted,
    hyperparameters: Hyperparameters,
) -> tuple[Fit, Target]:
    """What the training rows make of the features, and of the targets of a regression."""
    is_regression = target.task == "regression"
    measured = fit(
        group,
        TRAINING,
        columns,
        size,
        hyperparameters.min_frequency,
        hyperparameters.max_categories,
        tuple(Column(name, 1, "floating") for name in target.names) if is_regression else (),
        target,
    )
    return measured, target.with_units(measured.others) if is_regression else target
