"""The group without workers (``--workers 0``): the driver's own process computes every shard."""

from dist_dnn import stopping
from dist_dnn.data.dataset import Dataset
from dist_dnn.rounds import Options, Rounds, Task, Vectors
from dist_dnn.shards import Additions
from workers.group import WorkerGroup, WorkerLost
from workers.shard_worker import ShardWorker, task_name


class InProcessRounds:
    """Rounds that are computed on the spot."""

    def __init__(self, worker: ShardWorker, name: str, broadcast: Vectors, slots: Vectors) -> None:
        self.broadcast = broadcast
        self._worker = worker
        self._name = name
        self._total = slots.slot(0)

    def run(self, *position: int) -> Vectors:
        with stopping.immediate():
            self._worker.run(self._name, position)
        return self._total


class InProcessGroup(WorkerGroup):
    """All shards in this process."""

    def __init__(self, shards: int) -> None:
        super().__init__(shards, workers=0, max_failures=0)
        self._worker = ShardWorker(tuple(range(shards)), shards)

    def load(self, name: str, dataset: Dataset) -> None:
        self._worker.datasets[name] = dataset

    def open(self, task: type[Task], options: Options) -> Rounds:
        broadcast_sizes, sums = task.sizes(options)
        additions = Additions(self._worker.held, self.shards)
        broadcast = Vectors.zeros(broadcast_sizes)
        slots = Vectors.zeros_slots(sums, additions.slots)
        name = task_name(task)
        self._worker.open(name, options, broadcast, slots)
        return InProcessRounds(self._worker, name, broadcast, slots)

    def settle(self) -> None:
        pass

    def bury(self, loss: WorkerLost) -> list[WorkerLost]:
        return [loss]

    def close(self, at_once: bool = False) -> None:
        self._worker = ShardWorker((), self.shards)
