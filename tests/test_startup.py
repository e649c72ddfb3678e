"""A start imports what it needs, reads while workers start, and leaves none behind; its script."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from runs import descendants

from dist_dnn import preparation, train
from dist_dnn.front.cli import run

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "scripts" / "data" / "digits.parquet"
SCRIPT = ROOT / "scripts" / "startup.py"
LINUX = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into /proc")

HELP = """
from dist_dnn.__main__ import main
try:
    main(["--help"])
except SystemExit:
    pass
"""


@pytest.mark.parametrize(
    ("program", "needless"),
    [
        (HELP, {"pyarrow", "safetensors", "threadpoolctl", "tqdm", "workers", "ray", "mpi4py"}),
        ("import workers.local_worker", {"dist_dnn.front", "safetensors", "tqdm", "ray", "mpi4py"}),
    ],
    ids=["help", "worker"],
)
def test_only_what_is_needed_is_imported(program: str, needless: set[str]) -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys\nprint(*sys.modules, file=sys.stderr)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stderr.split()
    assert not needless & set(loaded)


@LINUX
def test_data_is_read_while_workers_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver reads the target though its workers are stopped before they can greet it."""
    stopped: set[int] = set()
    goes_on: set[int] = set()
    before = descendants(os.getpid())
    open_source, choose_columns = preparation.open_source, preparation.choose_columns

    def open_when_workers_are_stopped(data: Any) -> Any:
        stopped.update(descendants(os.getpid()) - before)
        for worker in stopped:
            os.kill(worker, signal.SIGSTOP)
        return open_source(data)

    def choose_when_they_go_on(*arguments: Any) -> Any:
        goes_on.update(descendants(os.getpid()) - before)
        for worker in goes_on:
            os.kill(worker, signal.SIGCONT)
        return choose_columns(*arguments)

    monkeypatch.setattr(preparation, "open_source", open_when_workers_are_stopped)
    monkeypatch.setattr(preparation, "choose_columns", choose_when_they_go_on)
    train(DIGITS, "digit", {"epochs": 0, "hidden": [8]}, workers=2)
    assert len(stopped) == 2
    assert goes_on == stopped


@LINUX
@pytest.mark.parametrize(
    ("data", "target", "says"),
    [
        (ROOT / "none.parquet", "digit", "there is no file or directory"),
        (DIGITS, "digits", "has no column 'digits'; did you mean 'digit'?"),
    ],
    ids=["no such file", "no such column"],
)
def test_a_mistake_leaves_no_worker(
    data: Path, target: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = descendants(os.getpid())
    arguments = ["train", str(data), "--target", target, "--out", str(tmp_path / "run")]
    assert run([*arguments, "--workers", "2"]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    [line] = errors.splitlines()
    assert line.startswith("error: ")
    assert says in line
    assert descendants(os.getpid()) == before
    assert not any(tmp_path.iterdir())


def test_the_script_prints_one_object() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--rounds", "1"], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    result = json.loads(done.stdout)
    assert (result["rounds"], result["workers"]) == (1, 2)
    for name in ("help", "first_step"):
        seconds = result[f"{name}_seconds_over_numpy"]
        assert result[f"{name}_interval"] == [seconds, seconds]
