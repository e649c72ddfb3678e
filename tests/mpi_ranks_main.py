"""Runs pytest on the rank that drives, which puts its tests under the ranks of one mpirun.

    mpirun -n 3 python tests/mpi_ranks_main.py FIXTURE [PYTEST_ARGUMENT...]

Of the tests that pytest finds, those run that take the fixture.
"""

import sys
from collections.abc import Sequence
from typing import Any

import mpi
import pytest

from workers.group import Reach, WorkerGroup
from workers.launch import Settings, run


class OnlyOf:
    """A plugin of pytest that leaves the tests which take a fixture."""

    def __init__(self, fixture: str) -> None:
        self.fixture = fixture

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [each for each in items if self.fixture in each.fixturenames]


def drive(reach: Reach, fixture: str, arguments: Sequence[str]) -> int:
    """Run the tests in the process that drives; returns pytest's exit status."""
    mpi.make_group = make_group(reach)
    plain = ("-p", "no:cacheprovider", "--color=no")  # nothing beside the outer pytest's
    return int(pytest.main([*plain, *arguments], plugins=[OnlyOf(fixture)]))


def make_group(reach: Reach) -> Any:
    def make(shards: int, **given: Any) -> WorkerGroup:
        if not given:
            return reach.group(shards)
        # MPI must not be imported before it is started.
        from workers.mpi_ranks import MpiGroup
        from workers.mpi_team import join

        return MpiGroup(join(), shards, **given)

    return make


if __name__ == "__main__":
    fixture, *arguments = sys.argv[1:]
    settings = Settings("mpi", step_timeout=mpi.SILENT_SECONDS)
    sys.exit(run(settings, lambda reach: drive(reach, fixture, arguments)))
