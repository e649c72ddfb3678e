"""A rank's part in the rounds: computing its shards' sums, and adding up everyone's."""

from typing import NamedTuple

from dist_dnn.data.dataset import Dataset
from dist_dnn.errors import InputError, RunError
from dist_dnn.rounds import Options, Vectors
from dist_dnn.shards import Additions
from workers.mpi_sums import Layout, Reports, Slices
from workers.mpi_team import Team
from workers.shard_worker import ShardWorker, task_class
from workers.shared_memory import Broadcast


class OpenTask(NamedTuple):
    """An open task and its memory.

    Attributes:
        name: by which ``ShardWorker`` knows it.
        broadcast: what the driver sends in each round.
        reports, slices: the way of its sums to the driver.
        total: where they are added up, on the driver's rank.
    """

    name: str
    broadcast: Broadcast
    reports: Reports
    slices: Slices
    total: Vectors


class RankMember:
    """Computes its shards' sums; a task's slices and reports add up everyone's.

    Args:
        team: of which this rank is one.
        held: the shards that each of them holds.
        shards: S.
        datasets: those that are loaded.

    Attributes:
        tasks: those that are open, by number.
    """

    def __init__(
        self,
        team: Team,
        held: list[tuple[int, ...]],
        shards: int,
        datasets: dict[str, Dataset],
    ) -> None:
        self.team = team
        self.held = held
        self.work = ShardWorker(held[team.index], shards, datasets)
        self.tasks: dict[int, OpenTask] = {}

    def open(self, number: int, name: str, options: Options, broadcast: Broadcast) -> None:
        """Make a task, by whose number rounds will name it.

        Raises:
            InputError, RunError: as ``ShardWorker.open``.
        """
        _, sums = task_class(name).sizes(options)
        shards = self.work.shards
        additions = [Additions(held, shards) for held in self.held]
        own = additions[self.team.index]
        slots = Vectors.zeros_slots(sums, own.slots)
        kept = {subtree: slots.slot(slot) for subtree, slot in own.subtrees.items()}
        subtrees = [list(each.subtrees) for each in additions]
        layout = Layout(self.team, subtrees, kept, sums, shards)
        self.tasks[number] = OpenTask(
            name, broadcast, Reports(layout), Slices(layout), layout.own[0]
        )
        self.work.open(name, options, broadcast.vectors, slots)

    def compute(self, number: int, position: tuple[int, ...]) -> InputError | RunError | None:
        """Compute the sums of the shards held, and note how that went in the task's report.

        Returns:
            An error: this rank does its part of the round all the same.
        """
        task = self.tasks[number]
        error = None
        try:
            self.work.run(task.name, position)
        except (InputError, RunError) as caught:
            error = caught
        task.reports.note(error is not None)
        return error
