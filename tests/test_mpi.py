"""The contract of every WorkerGroup under mpirun: the rank that drives runs the tests of groups."""

import sys
from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import test_groups
from mpi import mpirun, needs_mpi

pytestmark = needs_mpi

TESTS = Path(__file__).parent
RANKS = (1, 2, 3, 5, 8)
QUICK = 3

STARTS_AGAIN = "test_a_task_starts_again_from_its_first_round_when_workers_are_lost"
STOPPED = "test_a_worker_that_is_stopped_or_hangs_is_lost_after_the_timeout"
TOO_MANY = "test_too_many_losses_in_one_step_are_an_error_that_names_the_worker"
QUICK_WITH_LOSSES = f"{STARTS_AGAIN}[mpi-2-shards2]"
WITH_LOSSES = (
    f"{STARTS_AGAIN}[mpi-1-shards1]",
    QUICK_WITH_LOSSES,
    f"{STARTS_AGAIN}[mpi-1-shards3]",
    "test_a_worker_lost_while_a_task_is_opened[mpi]",
    *(f"{STOPPED}[mpi-{how}]" for how in ("SIGSTOP", "hang")),
    *(f"{TOO_MANY}[mpi-{most}]" for most in (0, 1, 2)),
)
"""The tests that lose ranks, which do not come back; shards0 are the driver's."""


def parameters(values: Sequence[Any], quick: Any) -> list[Any]:
    """All of them, but for the quick one marked as slow."""
    return [
        value if value == quick else pytest.param(value, marks=pytest.mark.slow) for value in values
    ]


def passes_under_mpirun(ranks: int, fixture: str, *tests: str, survives: bool = False) -> None:
    """Pass those of the tests that take the fixture."""
    main = (sys.executable, TESTS / "mpi_ranks_main.py", fixture)
    done = mpirun(ranks, *main, *tests, survives=survives, cwd=TESTS.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


@pytest.mark.parametrize("ranks", parameters(RANKS, QUICK))
def test_ranks_are_a_group_like_any(ranks: int) -> None:
    passes_under_mpirun(ranks, "group", "tests/test_groups.py")


@pytest.mark.parametrize("name", parameters(WITH_LOSSES, QUICK_WITH_LOSSES))
def test_a_group_survives_the_loss_of_ranks(name: str) -> None:
    passes_under_mpirun(4, "make", f"tests/test_groups.py::{name}", survives=True)


def test_no_test_with_losses_is_left_out() -> None:
    tests = {
        name
        for name, test in vars(test_groups).items()
        if name.startswith("test_") and "make" in signature(test).parameters
    }
    assert tests == {name.partition("[")[0] for name in WITH_LOSSES}
