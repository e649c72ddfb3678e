"""The contract of every WorkerGroup: one suite, run against each."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from rounds_tasks import Failing, Remembering, Whereabouts

from dist_dnn.errors import InputError, RunError
from workers.group import WorkerGroup, WorkerLost
from workers.in_process import InProcessGroup
from workers.local_processes import LocalGroup

SHARDS = 8
MakeGroup = Callable[[int], WorkerGroup]


@pytest.fixture(autouse=True)
def tasks_of_these_tests_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


GROUPS = {
    "in process": lambda: InProcessGroup(SHARDS),
    **{f"local {n}": (lambda n=n: LocalGroup(SHARDS, n)) for n in (1, 2, 3, 5, 8)},
}


@pytest.fixture(params=GROUPS, scope="module")
def group(request: pytest.FixtureRequest) -> Iterator[WorkerGroup]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        made = GROUPS[request.param]()
    with made:
        yield made


def three_rounds(group: WorkerGroup, length: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rounds = group.open(Remembering, {"length": length})
    results = []
    for number in range(3):
        rounds.broadcast.single[:] = np.linspace(0, number, length)
        rounds.broadcast.double[:] = number / 3
        total = rounds.run(number)
        results.append((total.single.copy(), total.double.copy()))
    return results


@pytest.mark.parametrize("length", [0, 1, 1023, 5000, 300_000])
def test_three_rounds_with_state_give_the_same_bits_in_every_group(
    group: WorkerGroup, length: int
) -> None:
    expected = three_rounds(InProcessGroup(SHARDS), length)
    for (single, double), (right_single, right_double) in zip(
        three_rounds(group, length), expected, strict=True
    ):
        assert single.tobytes() == right_single.tobytes()
        assert double.tobytes() == right_double.tobytes()
    assert expected[2][1].tolist() == [3 * SHARDS, sum(range(SHARDS))]


def test_every_shard_is_computed_by_one_worker(group: WorkerGroup) -> None:
    processes = group.open(Whereabouts, {"shards": SHARDS}).run().double
    assert len(set(processes)) == max(group.workers, 1)
    assert (os.getpid() in processes) == (group.workers == 0)


def test_the_driver_may_change_the_total(group: WorkerGroup) -> None:
    rounds = group.open(Remembering, {"length": 2000})
    rounds.broadcast.single[:] = 1
    first = rounds.run(0).single
    before = first.copy()
    first *= 17
    assert rounds.run(2).single.tobytes() == before.tobytes()


def test_many_rounds_and_several_open_tasks_do_not_mix(group: WorkerGroup) -> None:
    remembering = group.open(Remembering, {"length": 10})
    whereabouts = group.open(Whereabouts, {"shards": SHARDS})
    remembering.run(0)
    for number in range(2, 200):
        assert remembering.run(2).double[0] == SHARDS * number
        assert (whereabouts.run().double > 0).all()


def test_bad_data_is_reported_for_the_lowest_shard_and_the_group_goes_on(
    group: WorkerGroup,
) -> None:
    failing = group.open(Failing, {"shards": [1, 3, 6], "how": "input"})
    for _ in range(3):
        with pytest.raises(InputError, match=r"^shard 1 has bad data$"):
            failing.run()
    assert group.open(Whereabouts, {"shards": SHARDS}).run().double.all()


def test_a_bug_in_a_worker_names_worker_and_shard(group: WorkerGroup) -> None:
    failing = group.open(Failing, {"shards": [SHARDS - 1], "how": "bug"})
    with pytest.raises(RunError, match=r"shard 7: KeyError: 'nothing of that name'") as caught:
        failing.run()
    if group.workers:
        assert str(caught.value).startswith(f"worker {group.workers - 1}: ")


def test_more_workers_than_shards_is_an_error_that_gives_the_flag() -> None:
    with pytest.raises(InputError, match="--workers 8"):
        LocalGroup(SHARDS, 9)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_worker_that_dies_in_a_round_ends_it_with_its_name(workers: int) -> None:
    with LocalGroup(SHARDS, workers) as group:
        failing = group.open(Failing, {"shards": [7], "how": "die"})
        began = time.monotonic()
        with pytest.raises(WorkerLost, match=rf"^worker {workers - 1} \(shards .*7\) ended with"):
            failing.run()
        assert time.monotonic() - began < 30


def test_a_killed_worker_is_noticed_while_others_open_a_task() -> None:
    with LocalGroup(SHARDS, 2) as group:
        group.join()
        slow, victim = (process.popen for process in group.processes)
        slow.send_signal(signal.SIGSTOP)
        threading.Timer(0.2, victim.kill).start()
        try:
            with pytest.raises(WorkerLost, match=r"^worker 1 .* was killed by SIGKILL$"):
                group.open(Remembering, {"length": 5})
        finally:
            slow.send_signal(signal.SIGCONT)


def test_a_killed_worker_is_noticed_between_rounds() -> None:
    with LocalGroup(SHARDS, 2) as group:
        rounds = group.open(Remembering, {"length": 5})
        rounds.run(0)
        group.processes[1].popen.kill()
        with pytest.raises(WorkerLost, match=r"^worker 1 .* was killed by SIGKILL$"):
            rounds.run(2)


def test_closing_ends_all_processes() -> None:
    group = LocalGroup(SHARDS, 3)
    group.open(Remembering, {"length": 5}).run(0)
    processes = [process.popen for process in group.processes]
    group.close()
    assert all(process.returncode is not None for process in processes)
