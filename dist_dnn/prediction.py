"""Prediction: Ŷ for every row of a table, computed by all workers, in the order of the rows."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dist_dnn.data.dataset import Dataset, Reader
from dist_dnn.data.features import Features
from dist_dnn.data.holdout import Rows
from dist_dnn.data.sources import Source
from dist_dnn.model import Model
from dist_dnn.nn.network import Network, Parameters
from dist_dnn.nn.propagation import ArraysByLength, forward
from dist_dnn.rounds import Exchange, Group, Options, Sizes, Task
from dist_dnn.shards import CHUNK_ROWS, shard_range

DATASET = "prediction"

ROUND_CHUNKS = 8
"""A round takes up to so many chunks from a shard, so that starting it does not count …"""

ROUND_NUMBERS = 2**20
"""… but no more than make so many numbers in all, or one."""

GROUP_ROWS, GROUP_NUMBERS = 2**17, 2**22
"""Predictions are given by up to so many rows and numbers at a time."""


class Prediction(Task):
    """A round computes the next chunks of a few shards, each of which has a part of the sums.

    In the total, every part is what one worker has put there, plus zeros. To the last bit: −0 + 0
    would be 0 where there is another worker, so it is made 0 everywhere.

    A part goes through ``stride`` neighbours one by one, turn by turn, and so through rows that
    follow each other: the first through shards 0 … stride − 1, and so on.

    Options: dataset, network (the arguments of Network), features (their JSON), shards, stride,
    chunks.
    Position: (turn, first chunk). Sums: (parts, chunks · CHUNK_ROWS, n[L]).
    """

    def __init__(
        self, options: Options, datasets: Mapping[str, Dataset], exchange: Exchange
    ) -> None:
        super().__init__(options, datasets, exchange)
        self.dataset = datasets[options["dataset"]]
        self.features = Features.from_json(options["features"])
        self.stride, self.chunks = options["stride"], options["chunks"]
        self.network = Network(**options["network"])
        self.parameters = Parameters(self.network, exchange.broadcast.single)
        self.arrays = ArraysByLength(self.network, CHUNK_ROWS)
        self.readers = {
            leaf.shard // self.stride: Reader(self.dataset) for leaf in exchange.additions.leaves
        }

    @classmethod
    def sizes(cls, options: Options) -> tuple[Sizes, Sizes]:
        network = Network(**options["network"])
        parts = -(-options["shards"] // options["stride"])
        rows = parts * options["chunks"] * CHUNK_ROWS
        return Sizes(network.parameter_count, 0), Sizes(rows * network.layer_sizes[-1], 0)

    def run(self, position: tuple[int, ...]) -> None:
        turn, chunk = position
        for (first, stop), slot in self.exchange.additions.subtrees.items():
            single = self.exchange.slots.single[slot]
            single.fill(0)
            parts = single.reshape(-1, self.chunks * CHUNK_ROWS, self.network.layer_sizes[-1])
            for self.shard in range(first, stop):
                part, of_part = divmod(self.shard, self.stride)
                if of_part == turn:
                    self._predict(chunk, self.readers[part], parts[part])

    def _predict(self, chunk: int, reader: Reader, part: NDArray[np.float32]) -> None:
        """Ŷ of a shard's next chunks into its part, as rows."""
        begin, end = shard_range(self.dataset.rows.count, self.shard, self.dataset.shards)
        begin += chunk * CHUNK_ROWS
        for first in range(begin, min(begin + len(part), end), CHUNK_ROWS):
            batch, numbers = reader.read(first, min(first + CHUNK_ROWS, end))
            arrays = self.arrays.of(batch.num_rows)
            self.features.fill(batch, numbers, self.dataset.source.name, arrays.X.T)
            A = forward(self.parameters, arrays)
            np.add(A.T, 0, out=part[first - begin :][: batch.num_rows])


class Spool:
    """Ŷ of all rows in a file, in their order, whichever comes first.

    Args:
        file: empty, to be written and read.
        outputs: n[L].
    """

    def __init__(self, file: BinaryIO, outputs: int) -> None:
        self.file = file
        self.outputs = outputs

    def write(self, first: int, rows: NDArray[np.float32]) -> None:
        """Rows (m, n[L]) from this one on."""
        self.file.seek(4 * first * self.outputs)
        self.file.write(rows.data)

    def read(self, first: int, stop: int) -> NDArray[np.float32]:
        """The rows [first, stop), all of which were written; (stop - first, n[L])."""
        rows = np.empty((stop - first, self.outputs), np.float32)
        self.file.seek(4 * first * self.outputs)
        self.file.readinto(rows.data)  # type: ignore[attr-defined]
        return rows


def predictions(
    group: Group,
    model: Model,
    source: Source,
    folder: Path | None = None,
    report: Callable[[int], object] = int,
) -> Iterator[pa.RecordBatch]:
    """Predictions for a source's rows, in order; none is given before all are computed.

    Args:
        group: the workers, for the shards of the model.
        model: what predicts.
        source: the rows, in which no target is needed.
        folder: where to keep Ŷ meanwhile, 4 · n[L] bytes a row; None: with temporary files.
        report: is told of how many more rows Ŷ is computed.

    Yields:
        Up to GROUP_ROWS rows, as ``Model.predictions`` has them.

    Raises:
        InputError: the features are not in the source, or a value cannot be used.
        RunError: a worker failed, or too many were lost.
        OSError: Ŷ cannot be kept.
    """
    model.features.check_schema(source.schema, source.name)
    rows = Rows.all(source.rows)
    dataset = Dataset(source, rows, model.features.columns, (), group.shards)
    group.load(DATASET, dataset)
    outputs = model.target.outputs
    with TemporaryFile(dir=folder) as file:  # which has no name, and ends with this process
        spool = Spool(file, outputs)
        _predict(group, model, dataset, spool, report)
        most = max(1, min(GROUP_ROWS, GROUP_NUMBERS // outputs))
        for first in range(0, source.rows, most):
            stop = min(first + most, source.rows)
            yield model.predictions(spool.read(first, stop).T)


def _predict(
    group: Group, model: Model, dataset: Dataset, spool: Spool, report: Callable[[int], object]
) -> None:
    """Ŷ of all rows, into the spool."""
    shards, outputs = group.shards, model.target.outputs
    stride = -(-shards // max(group.workers, 1))
    parts = -(-shards // stride)
    chunks = ROUND_NUMBERS // (parts * CHUNK_ROWS * outputs)
    chunks = min(max(chunks, 1), ROUND_CHUNKS)
    rounds = group.open(
        Prediction,
        {
            "dataset": DATASET,
            "network": model.network.arguments(),
            "features": model.features.to_json(),
            "shards": shards,
            "stride": stride,
            "chunks": chunks,
        },
    )
    np.copyto(rounds.broadcast.single, model.parameters.vector)
    for turn in range(stride):
        in_turn = [shard_range(dataset.rows.count, s, shards) for s in range(turn, shards, stride)]
        longest = in_turn[0][1] - in_turn[0][0]
        for start in range(0, longest, chunks * CHUNK_ROWS):
            attempt = partial(rounds.run, turn, start // CHUNK_ROWS)
            total = group.surviving(attempt).single.reshape(parts, chunks * CHUNK_ROWS, outputs)
            for part, (first, stop) in zip(total, in_turn, strict=False):
                done = part[: max(0, stop - first - start)]
                spool.write(first + start, done)
                report(len(done))
