"""Models that nobody has trained, tables for them, and what they must predict."""

from typing import Any

import numpy as np
import pyarrow as pa

from dist_dnn.data.columns import Column
from dist_dnn.data.features import Features, Standardisation
from dist_dnn.data.sources import open_source
from dist_dnn.data.targets import Target, TargetColumn
from dist_dnn.model import LOSS_OF_TASK, Model
from dist_dnn.nn.network import Network
from dist_dnn.nn.propagation import Arrays, forward
from dist_dnn.prediction import predictions
from dist_dnn.rounds import Group
from dist_dnn.shards import CHUNK_ROWS, shard_range

SHARDS = 8
TASKS = ("binary", "multiclass", "regression", "several")
FEATURES = Features(
    (Column("x", 1, "floating"), Column("v", 3, "integer")),
    Standardisation(np.array([0.5, 1, 2, 3]), np.array([2.0, 3, 0, 5])),
)


def made_up_model(task: Any) -> Model:
    """A model of that task, or of several targets, with parameters drawn at random."""
    one = TargetColumn("y", pa.float32(), 3.0, 2.0)
    target = {
        "binary": Target("binary", (TargetColumn("y", pa.bool_()),), pa.array([False, True])),
        "multiclass": Target(
            "multiclass", (TargetColumn("y", pa.string()),), pa.array(["a", "b", "c"])
        ),
        "regression": Target("regression", (one,)),
        "several": Target("regression", (one, TargetColumn("z", pa.int8(), -1.0, 0.1))),
    }[task]
    network = Network((FEATURES.size, 6, target.outputs), "tanh", LOSS_OF_TASK[target.task])
    return Model(network, network.initialize(1), FEATURES, target, SHARDS)


def made_up_table(m: int) -> pa.Table:
    """FEATURES and a column that is none, but no target."""
    random = np.random.default_rng(m)
    v: Any = pa.array(random.integers(0, 9, 3 * m))
    lists = pa.FixedSizeListArray.from_arrays(v, 3)
    return pa.table({"other": ["text"] * m, "v": lists, "x": random.normal(size=m)})


def expected_predictions(model: Model, table: pa.Table) -> pa.Table:
    """Chunk by chunk of each shard, in the order of the rows."""
    batches = []
    for shard in range(model.shards):
        start, stop = shard_range(table.num_rows, shard, model.shards)
        for first in range(start, stop, CHUNK_ROWS):
            rows = np.arange(first, min(first + CHUNK_ROWS, stop))
            [batch] = table.slice(first, len(rows)).combine_chunks().to_batches()
            arrays = Arrays(model.network, len(rows))
            model.features.fill(batch, rows, "table", arrays.X.T)
            batches.append(model.predictions(forward(model.parameters, arrays)))
    return pa.Table.from_batches(batches)


def predicted(group: Group, model: Model, data: Any, **given: Any) -> pa.Table:
    """What a group makes of a table or a file."""
    return pa.Table.from_batches(predictions(group, model, open_source(data), **given))


def bits(table: pa.Table) -> list[tuple[str, bytes]]:
    """The names and the bytes of the columns: NaN and −0 count as what they are."""
    return [
        (name, column.combine_chunks().to_numpy(zero_copy_only=False).tobytes())
        if pa.types.is_floating(column.type)
        else (name, repr(column.to_pylist()).encode())
        for name, column in zip(table.column_names, table.columns, strict=True)
    ]
