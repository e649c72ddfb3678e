"""The model of a training step on many workers: its seconds, its bytes, and when workers pay.

Pure arithmetic; scripts/README.md has the formulas and where they come from.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from dist_dnn.nn.network import Network
from dist_dnn.rounds import Sizes
from dist_dnn.shards import BLOCK_ROWS, assign, complete_subtrees
from workers.member import slice_of

NUMBER_BYTES = 4
"""Of a float32: a parameter, or a sum of gradients."""

REPORT_BYTES = 8 * 1, 8 * 3
"""What a worker tells the driver of a round, and of each subtree: losses, weights and counts."""

HALF = 0.5
"""The efficiency from which scaling is said to pay."""

MOST_ROWS_OF_A_SHARD = 2**32
"""Batches in which a shard has more rows are not looked at."""


@dataclass(frozen=True)
class Work:
    """What a step computes.

    Attributes:
        parameters: P.
        row_flops: F, floating-point operations of the matrix products for one row.
        batch_size: B.
        shards: S.
    """

    parameters: int
    row_flops: int
    batch_size: int
    shards: int

    @classmethod
    def of(cls, network: Network, batch_size: int, shards: int) -> "Work":
        """W[l] A[l-1] and dZ[l] A[l-1]ᵀ of every layer, and W[l]ᵀ dZ[l] of all but layer 1."""
        products = [3 * layer.inputs * layer.units for layer in network.layers]
        products[0] = 2 * network.layers[0].inputs * network.layers[0].units
        return cls(network.parameter_count, 2 * sum(products), batch_size, shards)


@dataclass(frozen=True)
class Core:
    """How fast a worker's core computes the steps of one network, and the driver's updates it.

    Attributes:
        flops: of matrix products, a second.
        call: seconds of a step whatever there is in it.
        block: seconds of a block whatever its rows.
        row: seconds of a row beside its products.
        addition, update: seconds for each number of a vector.
    """

    flops: float
    call: float
    block: float
    row: float
    addition: float
    update: float

    def compute(self, work: Work, held: int) -> float:
        """Seconds for the sums of the first ``held`` shards, which have the most rows."""
        rows, blocks = rows_and_blocks(work, held)
        return (
            self.call
            + blocks * self.block
            + rows * (work.row_flops / self.flops + self.row)
            + (max(held, blocks) - 1) * work.parameters * self.addition
        )


def rows_and_blocks(work: Work, held: int) -> tuple[int, int]:
    """The rows of a batch that its first ``held`` shards have, and in how many blocks."""
    rows, rest = divmod(work.batch_size, work.shards)
    larger = min(rest, held)
    blocks = larger * -(-(rows + 1) // BLOCK_ROWS) + (held - larger) * -(-rows // BLOCK_ROWS)
    return held * rows + larger, blocks


class Exchange:
    """The vectors of a step that cross between workers, as MPI ranks send them; worker 0 drives.

    Args:
        parameters: P.
        shards: S.
        workers: N.

    Attributes:
        subtrees: how many complete subtrees each worker holds.
        slices: how many numbers each worker finishes.
    """

    def __init__(self, parameters: int, shards: int, workers: int) -> None:
        sums = Sizes(parameters, 0)
        places = [slice_of(sums, worker, workers) for worker in range(workers)]
        self.parameters = parameters
        self.workers = workers
        self.slices: list[int] = [max(0, place.stop - place.start) for place in places]
        self.subtrees = [len(complete_subtrees(held, shards)) for held in assign(shards, workers)]

    @property
    def calls(self) -> int:
        """How many all-to-all exchanges there are: one for each subtree of who holds most."""
        return max(self.subtrees)

    @property
    def additions(self) -> int:
        """How many times a worker adds numbers to those of the slice it finishes."""
        return sum(self.subtrees) - 1

    @property
    def vector_bytes(self) -> int:
        """Of the parameters, and of a subtree's sums."""
        return NUMBER_BYTES * self.parameters

    @property
    def gathered_bytes(self) -> int:
        """Of the slices that the driver gets from others."""
        return NUMBER_BYTES * (self.parameters - self.slices[0])

    @cached_property
    def exchanged_bytes(self) -> list[tuple[int, int]]:
        """What each worker sends, and receives, of slices of subtrees."""
        total = sum(self.subtrees)
        return [
            (
                NUMBER_BYTES * own * (self.parameters - numbers),
                NUMBER_BYTES * (total - own) * numbers,
            )
            for own, numbers in zip(self.subtrees, self.slices, strict=True)
        ]

    @property
    def report_bytes(self) -> list[int]:
        """Of the message that each worker sends the driver."""
        base, subtree = REPORT_BYTES
        return [base + subtree * own for own in self.subtrees]

    @property
    def worker_bytes(self) -> tuple[int, int]:
        """The most that a worker beside the driver sends, and the most that one receives."""
        pairs = list(zip(self.exchanged_bytes, self.slices, self.report_bytes, strict=True))[1:]
        sent = (out + NUMBER_BYTES * numbers + report for (out, _), numbers, report in pairs)
        received = (self.vector_bytes + into for (_, into), _, _ in pairs)
        return max(sent, default=0), max(received, default=0)

    @property
    def driver_bytes(self) -> tuple[int, int]:
        """What the driver sends, the parameters counted once, and receives."""
        if self.workers == 1:
            return 0, 0
        sent, received = self.exchanged_bytes[0]
        reports = sum(self.report_bytes[1:])
        return self.vector_bytes + sent, received + self.gathered_bytes + reports


class Reach(Protocol):
    """What lies between the workers."""

    def slowdown(self, workers: int) -> float:
        """How much longer so many workers compute at once than one by itself; at least 1."""

    def broadcast(self, exchange: Exchange) -> float:
        """Seconds until all workers have the parameters."""

    def reduce(self, exchange: Exchange) -> float:
        """Seconds to bring the sums together, without adding them."""


@dataclass(frozen=True)
class Wires:
    """A network: a message of n bytes takes α + n/β, and each sends and receives one at a time.

    Attributes:
        bandwidth: β, bytes a second, each way.
        latency: α, seconds.
    """

    bandwidth: float
    latency: float

    def slowdown(self, workers: int) -> float:
        return 1.0

    def broadcast(self, exchange: Exchange) -> float:
        levels, others = (exchange.workers - 1).bit_length(), exchange.workers - 1
        seconds = exchange.vector_bytes / self.bandwidth
        by_tree = levels * (self.latency + seconds)
        in_pieces = (levels + others) * self.latency + 2 * others / exchange.workers * seconds
        return levels * self.latency + min(by_tree, in_pieces)

    def reduce(self, exchange: Exchange) -> float:
        others = exchange.workers - 1
        exchanged = max(max(each) for each in exchange.exchanged_bytes) if others else 0
        reports = sum(exchange.report_bytes[1:])
        messages = (1 + exchange.calls + 1) * others  # the reports, the slices, the gathering
        sent = reports + exchanged + exchange.gathered_bytes * bool(others)
        return messages * self.latency + sent / self.bandwidth


@dataclass(frozen=True)
class Memory:
    """Workers on one machine, which read each other's memory: nothing is sent.

    Attributes:
        round: seconds to begin a round and to learn that it has ended.
        crowding: how much longer products take when several workers compute at once; at least 1.
    """

    round: float
    crowding: float

    def slowdown(self, workers: int) -> float:
        return self.crowding if workers > 1 else 1.0

    def broadcast(self, exchange: Exchange) -> float:
        return self.round

    def reduce(self, exchange: Exchange) -> float:
        return 0.0


@dataclass(frozen=True)
class Prediction:
    """A step on so many workers.

    Attributes:
        compute: seconds of the slowest worker.
        broadcast, reduce, update: seconds.
        efficiency: the speed-up over one worker, divided by the workers.
        sent, received: the most bytes of a worker beside the driver.
        driver_sent, driver_received: the driver's bytes; the parameters are counted once.
    """

    workers: int
    batch_size: int
    compute: float
    broadcast: float
    reduce: float
    update: float
    efficiency: float
    sent: int
    received: int
    driver_sent: int
    driver_received: int

    @property
    def seconds(self) -> float:
        """Of the whole step."""
        return self.compute + self.broadcast + self.reduce + self.update

    @property
    def examples_per_second(self) -> float:
        return self.batch_size / self.seconds


class Planner:
    """Predicts the steps of one network.

    Args:
        work: the batch and its shards.
        core: of every worker; the driver's updates.
        reach: what lies between them.
    """

    def __init__(self, work: Work, core: Core, reach: Reach) -> None:
        self.work = work
        self.core = core
        self.reach = reach
        self._exchanges: dict[int, Exchange] = {}

    def predict(self, workers: int) -> Prediction:
        """The step on so many workers, at most as many as there are shards."""
        exchange = self._exchange(workers)
        alone = sum(self._parts(self.work, 1))
        parts = self._parts(self.work, workers)
        return Prediction(
            workers,
            self.work.batch_size,
            *parts,
            alone / (workers * sum(parts)),
            *exchange.worker_bytes,
            *exchange.driver_bytes,
        )

    def _parts(self, work: Work, workers: int) -> tuple[float, float, float, float]:
        """Seconds of the slowest worker's computing, the broadcast, the reduction, the update."""
        exchange = self._exchange(workers)
        added = exchange.additions * max(exchange.slices) * self.core.addition
        return (
            self.core.compute(work, -(-work.shards // workers)) * self.reach.slowdown(workers),
            self.reach.broadcast(exchange),
            self.reach.reduce(exchange) + added * (workers > 1),
            work.parameters * self.core.update,
        )

    def _exchange(self, workers: int) -> Exchange:
        if workers not in self._exchanges:
            work = self.work
            self._exchanges[workers] = Exchange(work.parameters, work.shards, workers)
        return self._exchanges[workers]

    def efficient_from(self, workers: int) -> int | None:
        """The smallest multiple of S as batch size for which the efficiency is at least HALF."""
        return self._smallest(
            lambda work: (
                sum(self._parts(work, 1)) >= HALF * workers * sum(self._parts(work, workers))
            )
        )

    def faster_from(self, workers: int) -> int | None:
        """The smallest multiple of S as batch size for which a step is faster than one worker's."""
        return self._smallest(
            lambda work: sum(self._parts(work, workers)) < sum(self._parts(work, 1))
        )

    def _smallest(self, pays: Callable[[Work], bool]) -> int | None:
        """The smallest multiple of S that pays, where every larger one does; None beyond all."""
        work = self.work

        def with_rows(rows: int) -> Work:
            return Work(work.parameters, work.row_flops, rows * work.shards, work.shards)

        low, high = 0, 1
        while not pays(with_rows(high)):
            low, high = high, 2 * high
            if high > MOST_ROWS_OF_A_SHARD:
                return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if pays(with_rows(middle)) else (middle, high)
        return high * work.shards


def numbers_of_workers(workers: int) -> Iterable[int]:
    """1, 2, 4, … and N."""
    powers = (2**exponent for exponent in range(workers.bit_length()))
    return (*(power for power in powers if power < workers), workers)
