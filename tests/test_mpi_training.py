"""Trainings under mpirun give the bits, the files and the scores of one without workers."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import run_alone
from mpi import DIST_DNN, Library, install_mpich, mpirun, needs_mpi
from runs import DIGITS, what_is_left
from test_cli import predictions, scores, trained

pytestmark = needs_mpi

FLAGS = ("--hidden", "16", "--epochs", 2, "--validation", 0.1, "--class-weight", "balanced")
TWO_THREADS = {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("local") / "run", *FLAGS)


@pytest.fixture(scope="module")
def mpich(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return install_mpich(tmp_path_factory.mktemp("mpich"))


def train(out: Path) -> tuple[object, ...]:
    """The command of the local training, by ranks."""
    given = ("train", DIGITS, "--target", "digit", "--out", out, *FLAGS)
    return (*DIST_DNN, *given, "--progress", "none", "--backend", "mpi")


def check_same(out: Path, local: Path, ranks: int) -> None:
    """See that a run is that of one without workers, but for who computed it."""
    assert what_is_left(out) == what_is_left(local)
    status = json.loads((out / "status.json").read_text())
    assert (status["backend"], status["workers"]) == ("mpi", ranks)


def check_trains_alike(out: Path, local: Path, ranks: int, **given: Any) -> None:
    done = mpirun(ranks, *train(out), **given)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    check_same(out, local, ranks)


@pytest.mark.parametrize(
    "ranks", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 5, 8))]
)
def test_any_number_of_ranks_gives_the_same_bits(ranks: int, local: Path, tmp_path: Path) -> None:
    check_trains_alike(tmp_path / "run", local, ranks)


def test_without_mpirun_there_is_one_rank(local: Path, tmp_path: Path) -> None:
    _, _, *command = train(tmp_path / "run")
    assert run_alone(*command[1:]) == (0, "", "")
    check_same(tmp_path / "run", local, 1)


@pytest.mark.slow  # test_mpi_losses.py has such ranks train too
def test_ranks_whose_loss_would_be_survived_give_the_same_bits(local: Path, tmp_path: Path) -> None:
    check_trains_alike(tmp_path / "run", local, 3, survives=True)


def test_mpich_gives_the_same_bits(local: Path, tmp_path: Path, mpich: Library) -> None:
    check_trains_alike(tmp_path / "run", local, 2, library=mpich)


@pytest.mark.slow
@pytest.mark.parametrize("binding", ["none", "core"])
def test_the_launchers_threads_and_binding_change_no_bit(
    binding: str, local: Path, tmp_path: Path
) -> None:
    if binding == "core" and (os.cpu_count() or 1) < 2:
        pytest.skip("needs two cores")
    given = {"flags": ("--bind-to", binding), "environment": TWO_THREADS}
    check_trains_alike(tmp_path / "run", local, 2, **given)


def test_evaluate_prints_one_object(local: Path) -> None:
    done = mpirun(3, *DIST_DNN, "evaluate", local, DIGITS, "--backend", "mpi")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    assert json.loads(done.stdout) == scores(local, DIGITS)


def test_predict_writes_the_same_file(local: Path, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.parquet", tmp_path / "theirs.parquet"
    carry = ("--columns", "digit,pixel_3_3")
    command = ("predict", local, DIGITS, "--backend", "mpi", "--out", ours)
    done = mpirun(3, *DIST_DNN, *command, *carry)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    predictions(local, DIGITS, theirs, *carry)
    assert ours.read_bytes() == theirs.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["ours.parquet", "theirs.parquet"]


def test_check_passes_and_names_the_library() -> None:
    done = mpirun(3, *DIST_DNN, "check", "--backend", "mpi")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("MPI: ")] == [lines[1]]
    assert lines[1].startswith("MPI: Open MPI ")
    assert lines[-1] == "mpi, 3 workers: 3 steps give the bits of serial ones"


TWICE = f"""
import pyarrow.parquet as parquet
from dist_dnn import train

table = parquet.read_table({str(DIGITS)!r})
for data in ({str(DIGITS)!r}, table):
    given = {{"hidden": [16], "epochs": 2, "class_weight": "balanced"}}
    run = train(data, "digit", given, validation=0.1, backend="mpi")
    print(len(run.history), run.digest, flush=True)
"""


@pytest.mark.parametrize("survives", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_python_trains_twice_and_a_table_in_memory(
    survives: bool, local: Path, tmp_path: Path
) -> None:
    script = tmp_path / "twice.py"
    script.write_text(TWICE)
    done = mpirun(3, sys.executable, script, survives=survives)
    assert (done.returncode, done.stderr) == (0, "")
    drove = f"2 {what_is_left(local)['digest']}"
    assert sorted(done.stdout.splitlines()) == ["0 None"] * 4 + [drove] * 2
