"""Nothing is lost while workers and drivers are killed and stopped and the disk fails."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from mpi import needs_mpi

SCRIPT = Path(__file__).parents[1] / "scripts" / "chaos.py"
pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into /proc")


def chaos(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False
    )


def check_nothing_is_lost(backend: str, runs: int, seed: int, *flags: str) -> None:
    done = chaos("--backend", backend, "--runs", str(runs), "--seed", str(seed), *flags)
    assert done.returncode == 0, done.stderr + done.stdout
    report = json.loads(done.stdout)
    assert report["failures"] == report["left_behind"] == []
    assert report["runs"] == report["finished"] == report["right_digest"] == runs
    assert sum(report["faults"].values()) > runs / 2


def test_nothing_is_lost_where_workers_and_drivers_are_killed() -> None:
    """Other tests stop workers, interrupt drivers and fill disks, each by itself."""
    check_nothing_is_lost("local", 2, 1, "--faults", "kill,driver")


@pytest.mark.slow
def test_nothing_is_lost_by_faults_of_each_kind() -> None:
    check_nothing_is_lost("local", runs=7, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_nothing_is_lost_by_many_faults() -> None:
    check_nothing_is_lost("local", runs=30, seed=2)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray")
def test_nothing_is_lost_by_faults_of_each_kind_on_ray() -> None:
    check_nothing_is_lost("ray", runs=6, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@needs_mpi
def test_nothing_is_lost_by_faults_of_each_kind_on_mpi() -> None:
    check_nothing_is_lost("mpi", runs=6, seed=1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--runs", "0"], "--runs"),
        (["--workers", "5"], "--workers"),
        (["--faults", "kill,fire"], "'fire'"),
        (["--backend", "paper"], "'paper'"),
        (["--hammer"], "--hammer"),
    ],
)
def test_a_bad_flag_is_one_line(arguments: list[str], says: str) -> None:
    done = chaos(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert says in line


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    script = subprocess.Popen(
        [sys.executable, SCRIPT],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    while script.poll() is None and not list(tmp_path.glob("chaos-*/undisturbed-*")):
        time.sleep(0.01)
    script.send_signal(signal.SIGINT)
    _, errors = script.communicate(timeout=60)
    assert (script.returncode, errors) == (130, "error: interrupted\n")
    assert list(tmp_path.iterdir()) == []
