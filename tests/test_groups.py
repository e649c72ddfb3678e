"""The contract of every WorkerGroup: one suite, run against each."""

import gc
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mpi
import numpy as np
import pyarrow as pa
import pytest
import ray
from models import TASKS, bits, expected_predictions, made_up_model, made_up_table, predicted
from rounds_tasks import Failing, Overbearing, Perishing, Remembering, Stillborn, Whereabouts

from dist_dnn.errors import InputError, RunError
from dist_dnn.hyperparameters import Hyperparameters
from dist_dnn.preparation import prepare
from dist_dnn.rounds import Rounds, Task
from dist_dnn.shards import assign
from dist_dnn.trainer import Trainer
from workers.group import WorkerGroup
from workers.in_process import InProcessGroup
from workers.local_processes import LocalGroup
from workers.process import Process
from workers.ray_actors import Actor, RayGroup
from workers.ray_cluster import Cluster

SHARDS = 8
MakeGroup = Callable[[int], WorkerGroup]


@pytest.fixture(scope="module", autouse=True)
def one_ray_for_all_groups() -> Iterator[None]:
    if not any(name.startswith("ray") for name in GROUPS):
        yield
        return
    cluster = Cluster(None, cpus=2 * SHARDS)  # for the group of the module, and one more
    yield
    cluster.close()


@pytest.fixture(autouse=True)
def tasks_of_these_tests_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


class Elsewhere(RayGroup):
    """Workers that share memory with each other, but not with the driver."""

    def _sites(self) -> list[list[Actor]]:
        return [[], self.actors]


class Apart(RayGroup):
    """Workers that share no memory."""

    def _sites(self) -> list[list[Actor]]:
        return [[], *([actor] for actor in self.actors)]


class Scattered(RayGroup):
    """Workers at the driver's site and two others."""

    def _sites(self) -> list[list[Actor]]:
        return [self.actors[:1], self.actors[1:2], self.actors[2:]]


GROUPS = {
    "in process": lambda: InProcessGroup(SHARDS),
    **{f"local {n}": (lambda n=n: LocalGroup(SHARDS, n)) for n in (1, 2, 3, 5, 8)},
    **{f"ray {n}": (lambda n=n: RayGroup(SHARDS, n)) for n in (1, 2, 3, 5, 8)},
    "ray elsewhere": lambda: Elsewhere(SHARDS, 3),
    "ray apart": lambda: Apart(SHARDS, 5),
    "ray scattered": lambda: Scattered(SHARDS, 5),
}
if mpi.make_group is not None:  # these are the ranks of one mpirun, and there is no other group
    GROUPS = {"mpi": lambda: mpi.make_group(SHARDS)}


def parameters(groups: dict[str, Any], *quick: str) -> list[Any]:
    """The groups by name; of those on Ray, which takes long, all but a quick one are slow."""
    return [chosen(not name.startswith("ray") or name in quick, name) for name in groups]


def chosen(is_quick: bool, *values: Any) -> Any:
    """Parameters of a test, which is slow unless it is quick."""
    return pytest.param(*values, marks=() if is_quick else pytest.mark.slow)


@pytest.fixture(params=parameters(GROUPS, "ray 2", "ray scattered"), scope="module")
def group(request: pytest.FixtureRequest) -> Iterator[WorkerGroup]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        made = GROUPS[request.param]()
    with made:
        yield made


def three_rounds(group: WorkerGroup, length: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return three_rounds_of(group.open(Remembering, {"length": length}))


def three_rounds_of(rounds: Rounds) -> list[tuple[np.ndarray, np.ndarray]]:
    length = rounds.broadcast.single.size
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


@pytest.mark.parametrize("task", TASKS)
def test_predictions_have_the_same_bits_in_every_group(task: str, group: WorkerGroup) -> None:
    model, table = made_up_model(task), made_up_table(20_003)
    assert bits(predicted(group, model, table)) == bits(expected_predictions(model, table))


def test_columns_of_every_kind_have_the_same_bits_in_every_group(group: WorkerGroup) -> None:
    n = np.arange(3001)
    table = pa.table(
        {
            "text": [None if row % 11 == 0 else f"é{row % 7}" * 50 for row in n],
            "number": pa.array(np.where(n % 5 == 0, np.nan, n / 7)),
            "y": n % 2,
        }
    )
    given = Hyperparameters(hidden=(4,))
    expected = prepare(InProcessGroup(SHARDS), table, ("y",), given)
    assert prepare(group, table, ("y",), given).features.to_json() == expected.features.to_json()
    assert expected.features.size == 7 + 1 + 2


def is_of_ranks(group: WorkerGroup) -> bool:
    return group.noun == "rank"


def name_of(group: WorkerGroup, worker: int) -> str:
    """How messages name a worker."""
    return f"rank {worker} on {socket.gethostname()}" if is_of_ranks(group) else f"worker {worker}"


def test_every_shard_is_computed_by_one_worker(group: WorkerGroup) -> None:
    processes = group.open(Whereabouts, {"shards": SHARDS}).run().double
    assert len(set(processes)) == max(group.workers, 1)
    assert (os.getpid() in processes) == (group.workers == 0 or is_of_ranks(group))


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
    message = "shard 1 has bad data"
    if is_of_ranks(group):
        [worker] = [n for n, held in enumerate(assign(SHARDS, group.workers)) if 1 in held]
        message = f"{name_of(group, worker)}: {message}"
    for _ in range(3):
        with pytest.raises(InputError) as caught:
            failing.run()
        assert str(caught.value) == message
    assert group.open(Whereabouts, {"shards": SHARDS}).run().double.all()


def test_a_bug_in_a_worker_names_worker_and_shard(group: WorkerGroup) -> None:
    failing = group.open(Failing, {"shards": [SHARDS - 1], "how": "bug"})
    with pytest.raises(RunError, match=r"shard 7: KeyError: 'nothing of that name'") as caught:
        failing.run()
    if group.workers:
        assert str(caught.value).startswith(f"{name_of(group, group.workers - 1)}: ")


def test_more_workers_than_shards_is_an_error_that_gives_the_flag() -> None:
    with pytest.raises(InputError, match="--workers 8"):
        LocalGroup(SHARDS, 9)


# Lost workers


def patient(given: dict[str, Any]) -> dict[str, Any]:
    """Answers of Ray and MPI take longer than a look at a process."""
    timeout = given.get("step_timeout")
    return given if timeout is None else given | {"step_timeout": 8 * timeout}


def patient_ray(given: dict[str, Any]) -> dict[str, Any]:
    return patient(given) | {"name": "mortal"}  # the group of the module has its own


MORTAL: dict[str, Callable[..., WorkerGroup]] = {
    **{f"local {n}": (lambda n=n, **given: LocalGroup(SHARDS, n, **given)) for n in (1, 3, 8)},
    "ray": lambda **given: RayGroup(SHARDS, 3, **patient_ray(given)),
    "ray scattered": lambda **given: Scattered(SHARDS, 4, **patient_ray(given)),
}
"""Groups whose workers can be lost, with what else they take."""

if mpi.make_group is not None:
    MORTAL = {"mpi": lambda **given: mpi.make_group(SHARDS, **patient(given))}


@pytest.fixture(params=parameters(MORTAL))
def make(request: pytest.FixtureRequest) -> Callable[..., WorkerGroup]:
    return MORTAL[request.param]


def losses(
    names: str, cases: Sequence[tuple[Any, ...]], quick: Mapping[str, Sequence[int]]
) -> pytest.MarkDecorator:
    """Parameters: each mortal group with each case.

    Workers take long to start, many and Ray's above all, so not each is quick.

    Args:
        names: of the parameters of a case.
        quick: the cases, by their number, that are not slow with a group; all where it has none.
    """
    everywhere = range(len(cases))
    return pytest.mark.parametrize(
        f"make, {names}",
        [
            chosen(number in quick.get(name, everywhere), name, *case)
            for name in MORTAL
            for number, case in enumerate(cases)
        ],
        indirect=["make"],
    )


UNDISTURBED = {
    "shards": [],
    "round": 0,
    "how": "SIGKILL",
    "marker": None,
    "spared": os.getpid(),  # a driver may compute too
}


def perishing(group: WorkerGroup, task: type[Task], **options: Any) -> list[bytes]:
    """The totals of three rounds in which workers are lost as the options say."""
    rounds = group.open(task, {"length": 5000} | UNDISTURBED | options)
    totals = group.surviving(lambda: three_rounds_of(rounds))
    return [array.tobytes() for total in totals for array in total]


HOW = r"(was killed by SIGKILL|is gone|on \S+ is gone)"
"""What is said of workers that were killed."""

EXPECTED = perishing(InProcessGroup(SHARDS), Perishing)


@losses(
    "round_, shards",
    [(0, [0]), (1, [7]), (2, [1, 3, 6]), (1, list(range(SHARDS)))],
    {"local 1": (1,), "local 8": (2, 3), "ray": (), "ray scattered": (2,)},
)
def test_a_task_starts_again_from_its_first_round_when_workers_are_lost(
    make: Callable[..., WorkerGroup],
    round_: int,
    shards: list[int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with make(max_failures=SHARDS) as group:
        if is_of_ranks(group) and shards == [0]:
            pytest.skip("it is the driver that has this shard")
        options = {"shards": shards, "round": round_, "marker": f"{tmp_path}/lost"}
        assert perishing(group, Perishing, **options) == EXPECTED
        assert perishing(group, Perishing) == EXPECTED
    warnings = capsys.readouterr().err.splitlines()
    assert warnings
    for line in warnings:
        assert re.fullmatch(
            rf"warning: {group.noun} \d \(shards [\d, ]+\) {HOW}: "
            r"its shards go to another, and the step is repeated \(failure \d of at most 8\)",
            line,
        )


def test_a_worker_lost_while_a_task_is_opened(
    make: Callable[..., WorkerGroup], tmp_path: Path
) -> None:
    with make() as group:
        options = {"shards": [0, 5], "marker": f"{tmp_path}/lost"}
        assert perishing(group, Stillborn, **options) == EXPECTED


def test_actors_that_are_lost_all_at_once_are_replaced() -> None:
    with RayGroup(SHARDS, 3, name="mortal") as group:
        rounds = group.open(Perishing, {"length": 5000} | UNDISTURBED)
        for actor in group.actors:
            assert actor.greeting is not None
            os.kill(actor.greeting["process"], signal.SIGKILL)
        ray.wait([actor.serving for actor in group.actors], num_returns=3, timeout=10)
        totals = group.surviving(lambda: three_rounds_of(rounds))
        assert [array.tobytes() for total in totals for array in total] == EXPECTED
        assert len(group.actors) == 3


@losses(
    "how",
    [("SIGSTOP",), ("hang",)],
    {"local 1": (0,), "local 8": (1,), "ray": (), "ray scattered": (0,)},
)
def test_a_worker_that_is_stopped_or_hangs_is_lost_after_the_timeout(
    how: str, make: Callable[..., WorkerGroup], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with make(step_timeout=0.3) as group:
        rounds = group.open(Perishing, {"length": 5000} | UNDISTURBED)
        group.surviving(lambda: three_rounds_of(rounds))
        opened = {"shards": [7], "round": 2, "how": how, "marker": f"{tmp_path}/lost"}
        assert perishing(group, Perishing, **opened) == EXPECTED
    said = r"was (stopped|silent) for" if how == "SIGSTOP" else "did not finish a step in"
    assert re.search(said, capsys.readouterr().err)


def test_other_tasks_and_tables_are_there_after_a_loss(tmp_path: Path) -> None:
    table = pa.table({"x": [float(x) for x in range(100)], "y": [0, 1] * 50})
    given = Hyperparameters(hidden=(4,), batch_size=20, validation=0.2)
    totals = []
    for lost in (False, True):
        with LocalGroup(SHARDS, 3) as group:
            trainer = Trainer(group, prepare(group, table, ("y",), given), given)
            trainer.step(1, 0)
            if lost:
                group.processes[1].popen.kill()
            trainer.step(1, 1)
            assert trainer.validate is not None
            scores = trainer.validate(trainer.parameters)
            totals.append((trainer.parameters.vector.tobytes(), scores))
    assert totals[0] == totals[1]


@losses(
    "most",
    [(0,), (1,), (2,)],
    {"local 1": (2,), "local 8": (0,), "ray": (), "ray scattered": ()},
)
def test_too_many_losses_in_one_step_are_an_error_that_names_the_worker(
    make: Callable[..., WorkerGroup], most: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with make(max_failures=most) as group, pytest.raises(RunError) as caught:
        perishing(group, Perishing, shards=[7])
    message = str(caught.value)
    assert re.match(rf"{group.noun} \d \(shards .*7\) {HOW}", message)
    assert message.count("--max-failures") == 1
    assert len(capsys.readouterr().err.splitlines()) == most


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores cannot be chosen")
def test_as_many_workers_as_cores_have_one_each_and_others_have_all() -> None:
    cores = os.sched_getaffinity(0)
    for workers in {len(cores), len(cores) + 1}:
        with LocalGroup(2 * workers, workers) as group:
            group.settle()
            bound = [os.sched_getaffinity(each.popen.pid) for each in group.processes]
        own = [{core} for core in sorted(cores)]
        assert bound == (own if workers == len(cores) else [cores] * workers)


def test_losses_are_counted_for_each_step_anew(tmp_path: Path) -> None:
    with LocalGroup(SHARDS, 2, max_failures=1) as group:
        for number in range(3):
            options = {"shards": [0], "marker": f"{tmp_path}/{number}."}
            assert perishing(group, Perishing, **options) == EXPECTED


def test_a_stopped_worker_is_gone_for_good_and_its_memory_is_in_no_use() -> None:
    with LocalGroup(SHARDS, 2, step_timeout=0.3) as group:
        rounds = group.open(Perishing, {"length": 5000} | UNDISTURBED)
        group.surviving(lambda: three_rounds_of(rounds))
        stopped, memory = group.processes[1].popen, rounds.run(2).single
        stopped.send_signal(signal.SIGSTOP)
        totals = group.surviving(lambda: three_rounds_of(rounds))
        assert [array.tobytes() for total in totals for array in total] == EXPECTED
        assert stopped.returncode == -signal.SIGKILL
        assert not np.shares_memory(rounds.run(2).single, memory)


def test_a_worker_cannot_write_what_is_broadcast() -> None:
    says = r"^worker 0: Overbearing, shard 0: ValueError: .*read-only"
    with LocalGroup(SHARDS, 1) as group, pytest.raises(RunError, match=says):
        group.open(Overbearing, {}).run()


def test_a_killed_worker_is_noticed_while_others_open_a_task() -> None:
    with LocalGroup(SHARDS, 2, max_failures=0) as group:
        group.settle()
        slow, victim = (process.popen for process in group.processes)
        slow.send_signal(signal.SIGSTOP)
        threading.Timer(0.2, victim.kill).start()
        try:
            with pytest.raises(RunError, match=r"^worker 1 .* was killed by SIGKILL"):
                group.open(Remembering, {"length": 5})
        finally:
            slow.send_signal(signal.SIGCONT)


def test_a_worker_that_is_lost_while_others_start(tmp_path: Path) -> None:
    for number in (signal.SIGKILL, signal.SIGSTOP):
        with LocalGroup(SHARDS, 3, max_failures=1, step_timeout=0.5) as group:
            group.processes[1].popen.send_signal(number)
            assert perishing(group, Perishing) == EXPECTED
            assert len(group.processes) == 3


def test_workers_that_are_stopped_together_are_lost_together() -> None:
    with LocalGroup(SHARDS, 4, max_failures=1, step_timeout=1) as group:
        assert perishing(group, Perishing) == EXPECTED
        for process in group.processes:
            process.popen.send_signal(signal.SIGSTOP)
        assert perishing(group, Perishing) == EXPECTED


def test_a_worker_that_works_has_not_been_stopped_for_long() -> None:
    with LocalGroup(SHARDS, 2) as group:
        rounds = group.open(Perishing, {"length": 50} | UNDISTURBED)
        process = group.processes[0]
        process.popen.send_signal(signal.SIGSTOP)
        while process.stopped_for() == 0:
            time.sleep(0.01)
        process.popen.send_signal(signal.SIGCONT)
        rounds.run(0)
        assert process.stopped_since is None


def test_a_worker_that_has_ended_is_not_stopped() -> None:
    with LocalGroup(SHARDS, 1) as group:
        process = group.processes[0]
        process.popen.send_signal(signal.SIGSTOP)
        while process.stopped_for() == 0:
            time.sleep(0.01)
        process.popen.kill()
        os.waitid(os.P_PID, process.popen.pid, os.WEXITED | os.WNOWAIT)
        assert process.popen.returncode is None  # nobody has asked after it yet
        assert process.stopped_for() == 0
        assert process.has_ended()
        assert process.stopped_for() == 0


def test_what_ended_a_worker_is_said_of_any_signal() -> None:
    with LocalGroup(SHARDS, 1, max_failures=0) as group:
        group.settle()
        group.processes[0].popen.send_signal(signal.SIGRTMIN + 1)
        with pytest.raises(RunError, match=rf"was killed by signal {signal.SIGRTMIN + 1}"):
            perishing(group, Perishing)


def test_workers_that_cannot_be_started_are_done_without(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with LocalGroup(SHARDS, 3) as group:
        assert perishing(group, Perishing) == EXPECTED
        group.processes[1].popen.kill()

        def no_more(number: int) -> Process:
            raise OSError("no more processes")

        monkeypatch.setattr("workers.local_processes.Process", no_more)
        assert perishing(group, Perishing) == EXPECTED
        assert (group.workers, len(group.processes)) == (2, 2)
        for process in group.processes:
            process.popen.kill()
        with pytest.raises(RunError, match="no worker could be started: no more processes"):
            perishing(group, Perishing)
    assert "not all workers could be started: no more processes" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into /proc")
def test_descriptors_are_let_go(tmp_path: Path) -> None:
    def descriptors() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    with LocalGroup(SHARDS, 2) as group:
        counts = []
        for number in range(4):
            options = {"shards": [0], "marker": f"{tmp_path}/{number}."}
            assert perishing(group, Perishing, **options) == EXPECTED
            counts.append(descriptors())
    assert counts[0] == counts[-1]
    assert descriptors() == before


def test_closing_ends_all_processes() -> None:
    group = LocalGroup(SHARDS, 3)
    group.open(Remembering, {"length": 5}).run(0)
    processes = [process.popen for process in group.processes]
    group.close()
    assert all(process.returncode is not None for process in processes)
