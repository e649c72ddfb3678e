"""The benchmark's comparisons: their intervals, what peers compute, and how they fail."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import comparisons
import numpy as np
import peers.process
import pytest
import results
from against import compare_against, task_of
from benchmark import main
from comparisons import Estimate, ratio, take_turns
from own_steps import BATCHES, OwnSteps, Workload
from peers.process import LIBRARIES, Peer, check_peers
from peers.task import Task
from results import BEGIN, END, write_between_marks

from dist_dnn.errors import InputError, RunError
from dist_dnn.hyperparameters import Hyperparameters
from workers.in_process import InProcessGroup

PAGE = Path(__file__).parents[1] / "scripts" / "README.md"
TINY = ("--layers", "4,3,3", "--batch-size", "12", "--shards", "2", "--steps", "7")
TINY_TURN_SECONDS = 0.01

Benchmark = Callable[..., tuple[int, str, str]]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Benchmark:
    """Calls the command with short turns; gives its exit status, standard output and error."""
    monkeypatch.setattr(comparisons, "TURN_SECONDS", TINY_TURN_SECONDS)
    monkeypatch.setattr(comparisons, "SETTLING_SECONDS", 0)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["benchmark.py", *TINY, *arguments])
        return main(), *capsys.readouterr()

    return call


def tiny(optimizer: str = "sgd", shards: int = 3) -> Workload:
    return Workload(
        (6, 5, 4, 3),
        Hyperparameters(
            hidden=(5, 4), optimizer=optimizer, learning_rate=0.05, batch_size=21, shards=shards
        ),
    )


def tiny_task() -> Task:
    workload = tiny()
    with InProcessGroup(3) as group:
        return task_of(workload.trainer(group), workload, workers=2)


# Intervals


def test_with_seven_values_the_interval_reaches_from_the_least_to_the_greatest() -> None:
    assert Estimate.of([3, 1, 7, 2, 6, 4, 5]) == Estimate(4, 1, 7)


@pytest.mark.parametrize("count", range(6, 60))
def test_the_interval_holds_the_median_with_95_percent_and_is_the_narrowest(count: int) -> None:
    found = Estimate.of(range(count))
    outside = int(found.low)
    assert found.high == count - 1 - outside

    def missed(outside: int) -> float:
        return 2 * sum(math.comb(count, each) for each in range(outside + 1)) / 2**count

    assert missed(outside) <= 0.05 < missed(outside + 1)


def test_a_ratio_is_made_round_by_round() -> None:
    assert ratio([2, 30, 8], [1, 10, 2]) == Estimate(3, 2, 4)


class Counting:
    """A contender of steps that take a given time, which notes its turns."""

    def __init__(self, name: str, seconds: float, turns: list[tuple[str, int]]) -> None:
        self.name, self.seconds, self.turns = name, seconds, turns

    def turn(self, steps: int) -> float:
        self.turns.append((self.name, steps))
        return self.seconds


def test_turns_alternate_and_take_about_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparisons, "SETTLING_SECONDS", 0)
    turns: list[tuple[str, int]] = []
    fast, slow = Counting("fast", 0.001, turns), Counting("slow", 2.0, turns)
    assert take_turns([fast, slow], rounds=3) == [[0.001] * 3, [2.0] * 3]
    one, other = ("fast", 1000), ("slow", 3)
    assert turns[-6:] == [one, other, other, one, one, other]


# What peers compute


def losses_of(peer: OwnSteps | Peer, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        peer.turn(1)
        found.append(peer.loss)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("name", ["torch", "ddp", "jax"])
def test_a_peer_has_our_losses_on_the_same_batches(
    name: str, optimizer: str, tmp_path: Path
) -> None:
    if find_spec(LIBRARIES[name]) is None:
        pytest.skip(f"needs {LIBRARIES[name]}")
    workload = tiny(optimizer)
    with InProcessGroup(3) as group:
        trainer = workload.trainer(group)
        task = task_of(trainer, workload, workers=3)
        ours = losses_of(OwnSteps(trainer), BATCHES + 1)
    with Peer(name, tmp_path, task) as peer:
        theirs = losses_of(peer, BATCHES + 1)
    np.testing.assert_allclose(theirs, ours, rtol=1e-5)


def test_the_loss_of_scikit_learn_falls(tmp_path: Path) -> None:
    with Peer("sklearn", tmp_path, tiny_task()) as peer:
        losses = losses_of(peer, 5)
    assert losses == sorted(losses, reverse=True)


def test_a_task_goes_from_process_to_process_unchanged(tmp_path: Path) -> None:
    task = tiny_task()
    task.save(tmp_path)
    loaded = Task.load(tmp_path)
    for name, value in vars(task).items():
        np.testing.assert_equal(getattr(loaded, name), value)
    assert [W.shape for W in loaded.W] == [(6, 5), (5, 4), (4, 3)]
    assert sorted(loaded.batches.flat) == list(range(84))


# The command


def test_against_scikit_learn_gives_ratios_with_their_intervals(benchmark: Benchmark) -> None:
    status, stdout, stderr = benchmark("--workers", "0", "--against", "sklearn")
    assert status == 0, stderr
    result = json.loads(stdout)
    against = result["against"]["sklearn"]
    assert against["examples_per_second"] > 0
    assert 0 < against["ratio_low"] <= against["ratio"] <= against["ratio_high"]
    assert result["best_peer"] == "sklearn"
    for name in ("ratio", "ratio_low", "ratio_high"):
        assert result[name.replace("ratio", "ratio_to_best")] == against[name]
    assert "sklearn" in stderr


@pytest.mark.parametrize("what", ["local", "workers=2", "optimizer=adam"])
def test_beside_gives_a_ratio_with_its_interval(what: str, benchmark: Benchmark) -> None:
    status, stdout, stderr = benchmark("--workers", "1", "--beside", what)
    assert status == 0, stderr
    result = json.loads(stdout)
    assert result["ratio_to_beside_low"] <= result["ratio_to_beside"]
    assert result["ratio_to_beside"] <= result["ratio_to_beside_high"]
    assert {"beside_step_ms_median", "ms_more_than_beside"} <= set(result)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("--against", "keras"),
            "--against takes peers among torch, ddp, jax, sklearn, not 'keras'",
        ),
        (("--against", "sklearn", "--rounds", "6"), "--rounds must be at least 7 here, not 6"),
        (("--beside", "local", "--rounds", "6"), "--rounds must be at least 7 here, not 6"),
        (("--rounds", "0"), "--rounds must be at least 1 here, not 0"),
        (
            ("--against", "sklearn", "--optimizer", "momentum"),
            "--against compares sgd and adam, not momentum: choose one of them as --optimizer",
        ),
        (
            ("--workers", "0", "--beside", "threads=2"),
            "--beside takes a backend, workers=N or optimizer=NAME, not 'threads=2'",
        ),
        (
            ("--beside", "mpi"),
            "--beside has no ranks of MPI to start: give --backend mpi, and what takes turns "
            "with it as --beside",
        ),
    ],
)
def test_a_mistake_is_one_line(arguments: tuple[str, ...], says: str, benchmark: Benchmark) -> None:
    assert benchmark(*arguments) == (2, "", f"error: {says}\n")


def test_a_missing_library_is_named_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers.process, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"the peer ddp needs torch, .*: pip install '.\[peers\]'"):
        check_peers(["ddp"])


# Peers that fail


def test_a_peer_that_is_killed_between_turns_is_named(tmp_path: Path) -> None:
    with Peer("sklearn", tmp_path, tiny_task()) as peer:
        peer.process.kill()
        peer.process.wait()
        with pytest.raises(RunError, match="the peer sklearn ended with exit status -9"):
            peer.turn(1)


def test_a_peer_that_fails_is_named_with_its_last_line(tmp_path: Path) -> None:
    with (
        pytest.raises(RunError, match=r"the peer keras ended .* 1: ValueError: there is no peer"),
        Peer("keras", tmp_path, tiny_task()),
    ):
        pass


def test_a_comparison_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    make = subprocess.Popen

    def noted(*arguments: object, **options: object) -> object:
        started.append(make(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", noted)
    monkeypatch.setattr(Peer, "turn", lambda self, steps: 1 / 0)
    with InProcessGroup(3) as group, pytest.raises(ZeroDivisionError):
        compare_against(["sklearn"], group, 0, tiny(), rounds=7)
    assert [process.returncode for process in started] == [-9]


# The results' page


def test_results_are_written_between_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n", encoding="utf-8")
    write_between_marks(page, "new")
    assert page.read_text(encoding="utf-8") == f"before\n\n{BEGIN}\n\nnew\n\n{END}\n\nafter\n"


def made_up_result(low: float, high: float) -> dict[str, Any]:
    """What the benchmark might give: all its ratios within the same interval."""
    ratio = {"ratio": (low + high) / 2, "ratio_low": low, "ratio_high": high}
    all_ratios = {
        name.replace("ratio", f"ratio_to_{what}"): value
        for what in ("best", "beside")
        for name, value in ratio.items()
    }
    against = dict.fromkeys(LIBRARIES, ratio)
    return all_ratios | {"against": against, "best_peer": "jax", "gemm_fraction": 0.5}


def test_a_bar_is_missed_where_the_whole_interval_lies_below_and_a_failed_row_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def benchmark(name: str, shards: int, *flags: str) -> dict[str, Any] | None:
        if (name, shards) == ("M", 2):
            return None
        return made_up_result(1.0, 1.5) if name == "S" else made_up_result(1.2, 3.0)

    monkeypatch.setattr(sys, "argv", ["results.py"])
    monkeypatch.setattr(results, "PAGE", tmp_path / "README.md")
    monkeypatch.setattr(results, "benchmark", benchmark)
    monkeypatch.setattr(results, "check_peers", lambda names: None)
    monkeypatch.setattr(results, "version", lambda name: "1.0")
    results.PAGE.write_text(f"{BEGIN}{END}\n", encoding="utf-8")
    assert results.main() == 1
    written = results.PAGE.read_text(encoding="utf-8")
    assert "| S | 2 | jax | 1.25 (1.00 to 1.50); ≥ 2.00 missed | 1.25" in written
    assert "| S | 8 | jax | 1.25 (1.00 to 1.50); ≥ 1.20 | 1.25" in written
    assert "| M | 2 | failed | failed |" in written
    assert written.count("0.50; ≥") == 3
    assert "| one worker's step over that of two | 2.10 (1.20 to 3.00); ≥ 1.90 |" in written


def test_the_page_has_the_marks() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
