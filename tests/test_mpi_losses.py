"""Trainings by ranks survive those that are killed and stopped, or go on by --resume."""

import json
import re
import signal
import socket
from pathlib import Path

import pytest
from mpi import DIST_DNN, Job, job, mpirun, needs_mpi, ours
from runs import DIGITS, wait_until, what_is_left
from test_cli import trained

pytestmark = [
    needs_mpi,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks into /proc"),
]

HOST = re.escape(socket.gethostname())
FLAGS = ("--hidden", "16", "--batch-size", 32, "--epochs", 30)
"""Of a training that is far from its end after its first epochs."""

HELD = r"\(shards [\d, ]+\)"
AGAIN = "its shards go to another, and the step is repeated"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("local") / "run", *FLAGS)


def train(out: Path, *flags: object) -> tuple[object, ...]:
    given = ("train", DIGITS, "--target", "digit", "--out", out, *FLAGS)
    return (*DIST_DNN, *given, "--progress", "none", "--backend", "mpi", *flags)


def state(out: Path) -> str:
    found: str = json.loads((out / "status.json").read_text())["state"]
    return found


def wait_for_epochs(started: Job, out: Path, count: int = 2) -> None:
    """Wait until a training is under way: so many of its epochs are written."""
    metrics = out / "metrics.jsonl"

    def has_come() -> bool:
        assert started.process.poll() is None, started.end().stderr
        return metrics.exists() and metrics.read_text().count("\n") >= count

    wait_until(has_come)
    assert state(out) == "running"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rank", "number", "said"),
    [
        (
            2,
            signal.SIGKILL,
            rf"rank 2 {HELD} on {HOST} is gone: {AGAIN} \(failure 1 of at most 3\)",
        ),
        (
            1,
            signal.SIGSTOP,
            rf"rank 1 {HELD} on {HOST} was stopped for 2 s: {AGAIN} \(failure 1 of at most 3\)",
        ),
        (
            0,
            signal.SIGKILL,
            rf"rank 0 on {HOST}, which drove, is gone: rank 1 on {HOST} drives on from the last "
            rf"checkpoint",
        ),
    ],
    ids=["killed", "stopped", "driver killed"],
)
def test_a_lost_rank_costs_a_step(
    rank: int, number: int, said: str, local: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with job(4, *train(out, "--step-timeout", 2), survives=True) as started:
        wait_for_epochs(started, out)
        started.kill(rank, number)
        done = started.end()
        wait_until(started.is_gone)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    [line] = ours(done)
    assert re.fullmatch(f"warning: {said}", line)
    assert what_is_left(out) == what_is_left(local), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 2])
def test_where_losses_are_not_survived_a_run_is_resumed(
    rank: int, local: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with job(3, *train(out)) as started:
        wait_for_epochs(started, out)
        started.kill(rank, signal.SIGKILL)
        assert started.end().returncode != 0
        wait_until(started.is_gone)
    done = mpirun(3, *train(out, "--resume"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert what_is_left(out) == what_is_left(local)


@pytest.mark.parametrize(
    "survives", [pytest.param(False, marks=pytest.mark.slow), True], ids=["plain", "survives"]
)
def test_a_signal_to_the_launcher_leaves_a_checkpoint(
    survives: bool, local: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with job(3, *train(out), survives=survives) as started:
        wait_for_epochs(started, out)
        started.process.send_signal(signal.SIGTERM)
        assert started.end().returncode != 0
        wait_until(started.is_gone)
    assert state(out) == "stopped"
    done = mpirun(3, *train(out, "--resume=auto"), survives=survives)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert what_is_left(out) == what_is_left(local)
