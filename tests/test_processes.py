"""Worker processes begin and end with their driver, however it was started and however it ends."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from runs import descendants, is_alive, wait_until

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "scripts" / "data" / "digits.parquet"
LINUX = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks into /proc")

LONG = ["--target", "digit", "--epochs", "100000", "--workers", "2"]

UNGUARDED = f"""
from dist_dnn import train
run = train({str(DIGITS)!r}, "digit", {{"epochs": 1, "hidden": [8]}}, workers=2)
print(run.digest)
"""


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def output_of(*command: str, stdin: str | None = None, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_train_works_from_an_unguarded_script_standard_input_and_a_string(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(UNGUARDED)
    # A folder that has a package of the same name as ours must not confuse the workers.
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "local_worker.py").write_text("raise SystemExit('the wrong one')")
    digests = {
        output_of(sys.executable, str(script), cwd=tmp_path),
        output_of(sys.executable, "-", stdin=UNGUARDED, cwd=ROOT),
        output_of(sys.executable, "-c", UNGUARDED, cwd=ROOT),
    }
    assert len(digests) == 1


def test_train_works_in_a_notebook() -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(UNGUARDED)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        nbclient.NotebookClient(notebook, timeout=120).execute()
    [output] = notebook.cells[0].outputs
    assert output["text"] == output_of(sys.executable, "-c", UNGUARDED)


@contextmanager
def a_long_training(
    out: Path, flags: Sequence[str] = ()
) -> Iterator[tuple[subprocess.Popen[str], set[int]]]:
    """A training with two workers that would go on for long, and its workers."""
    driver = subprocess.Popen(
        [sys.executable, "-m", "dist_dnn", "train", DIGITS, *LONG, *flags, "--out", out],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until((out / "metrics.jsonl").exists)
        yield driver, descendants(driver.pid)
    finally:
        driver.kill()
        driver.communicate()


@LINUX
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_the_driver_and_leave_nothing(number: int, tmp_path: Path) -> None:
    before = set(os.listdir("/dev/shm"))
    with a_long_training(tmp_path / "run") as (driver, workers):
        assert len(workers) == 2
        driver.send_signal(number)
        _, errors = driver.communicate(timeout=60)
        wait_until(lambda: not any(is_alive(worker) for worker in workers))
    status = json.loads((tmp_path / "run" / "status.json").read_text())["state"]
    if number == signal.SIGKILL:
        assert driver.returncode == -number
    else:
        assert driver.returncode == 128 + number
        assert status == "stopped"
        assert "Traceback" not in errors
    assert set(os.listdir("/dev/shm")) - before == set()


@LINUX
def test_too_many_killed_workers_end_the_run_with_one_clear_line(tmp_path: Path) -> None:
    flags = ["--max-failures", "0"]
    with a_long_training(tmp_path / "run", flags) as (driver, workers):
        victim = max(workers)
        os.kill(victim, signal.SIGKILL)
        _, errors = driver.communicate(timeout=60)
        wait_until(lambda: not any(is_alive(worker) for worker in workers))
    assert driver.returncode == 1
    [line] = [line for line in errors.splitlines() if not line.startswith("epoch ")]
    what = "worker 1 (shards 4, 5, 6, 7) was killed by SIGKILL, and --max-failures is 0"
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["state"], status["error"]) == ("failed", what)
    assert line == (
        f"error: {what}; a checkpoint of step {status['step']} is in {tmp_path}/run: go on with "
        f"`dist-dnn train DATA --out {tmp_path}/run --resume`"
    )


@LINUX
def test_a_second_signal_ends_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    with a_long_training(tmp_path / "run", ["--step-timeout", "1000"]) as (driver, workers):
        # Between the first files and the training two signals at once leave the status as it is.
        wait_until(lambda: (tmp_path / "run" / "metrics.jsonl").read_text() != "")
        for worker in workers:  # so that the step cannot end, and the workers cannot obey
            os.kill(worker, signal.SIGSTOP)
        driver.send_signal(signal.SIGINT)
        driver.send_signal(signal.SIGTERM)
        _, errors = driver.communicate(timeout=60)
        wait_until(lambda: not any(is_alive(worker) for worker in workers))
    assert driver.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM)
    assert "Traceback" not in errors
    for folder in (tmp_path, tmp_path / "run", tmp_path / "run" / "checkpoints"):
        assert not [name for name in os.listdir(folder) if name.startswith(".")]
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "stopped"
