"""MPI ranks on two hosts: what mpirun reaches by its launch agent, and hosts and ranks that go."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clusters import MARK, ROOT, attempt, kill, processes
from hosts import TwoHosts
from runs import DIGITS, wait_until

from dist_dnn.front.cli import _parser

pytest.importorskip("mpi4py", reason="mpi4py is not installed")

MPIRUN = shutil.which("mpirun", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
CLUSTER = ROOT / "scripts" / "cluster"
HOSTFILE = CLUSTER / "hostfile"
SCRIPT = CLUSTER / "mpi.sbatch"
EXPERIMENT = ("--target", "digit", "--shards", 4, "--batch-size", 256, "--progress", "none")
SHORT, LONG = 3, 60
"""Epochs: for a training that ends by itself, and for one that is disturbed."""

AGENT = """\
#!/bin/sh
# Called as ssh would be: HOST COMMAND; little of the environment goes along.
shift
{enter} sh -c "$*"
status=$?
[ $status -le 128 ] || status=255  # ssh's for a host that is gone
exit $status
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def is_version_five() -> bool:
    """Whether there is an mpirun of Open MPI 5 or later, whose options the tests know."""
    if MPIRUN is None:
        return False
    said = subprocess.run([MPIRUN, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"\(Open MPI\) (\d+)", said)
    return found is not None and int(found[1]) >= 5


class Nodes:
    """Two hosts that mpirun starts ranks 0 and 1, and rank 2, on.

    Attributes:
        folder: which both see.
        first: the host of ranks 0 and 1, where mpirun is.
        other: the host of rank 2.
    """

    def __init__(self, two: TwoHosts, folder: Path) -> None:
        self.folder = folder
        self.first, self.other = two.hosts
        self._mark = f"{MARK}={folder}"
        self._environment = {**os.environ, MARK: str(folder)}
        self._agent = folder / "agent"
        self._hostfile = folder / "hostfile"
        written = HOSTFILE.read_text()
        for node, host, slots in (("node-1", self.first, 2), ("node-2", self.other, 1)):
            assert written.count(f"\n{node} slots=4\n") == 1
            written = written.replace(f"{node} slots=4", f"{host.address} slots={slots}")
        self._hostfile.write_text(written)
        kept = (f"HOME={folder}", f"PATH={os.environ['PATH']}")
        enter = self.other.command("env", "-i", *kept, cwd=Path("/"))
        self._agent.write_text(AGENT.format(enter=shlex.join(enter)))
        self._agent.chmod(0o755)

    def command(self, *arguments: object, options: tuple[str, ...] = ()) -> list[str]:
        """A command that trains with three ranks."""
        reach = ("--hostfile", self._hostfile, "--prtemca", "plm_ssh_agent", self._agent)
        mpirun = (MPIRUN, "--allow-run-as-root", *reach, "-x", MARK, *options)
        train = (sys.executable, ROOT / "scripts" / "train.py", *arguments, "--backend", "mpi")
        return self.first.command(*mpirun, *train)

    def attempt(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return attempt(self.command(*arguments), self._environment, ROOT)

    def disturbed(self, out: Path, disturb: Callable[[], object]) -> tuple[int, str]:
        """The status and the words of a training that survives, and is disturbed in its midst."""
        arguments = (DIGITS, *EXPERIMENT, "--epochs", LONG, "--out", out)
        log = self.folder / "log"
        with log.open("wb") as file:
            training = subprocess.Popen(
                self.command(*arguments, options=("--with-ft", "ulfm")),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        metrics = out / "metrics.jsonl"
        try:
            wait_until(lambda: (metrics.exists() and metrics.read_bytes()) or training.poll())
            disturb()
            return training.wait(120), log.read_text(errors="replace")
        finally:
            self.end()
            training.wait()

    def kill_rank(self, rank: int) -> None:
        [process] = processes(self._mark, f"OMPI_COMM_WORLD_RANK={rank}")
        os.kill(process, signal.SIGKILL)

    def end(self) -> None:
        """End what is left: the first host's processes are the machine's."""
        kill(self._mark)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    if not is_version_five():
        pytest.skip("there is no mpirun of Open MPI 5")
    with TwoHosts(tmp_path, reaching=True) as two:
        nodes = Nodes(two, tmp_path)
        yield nodes
        nodes.end()


def digest(out: Path) -> str:
    command = [sys.executable, "-m", "dist_dnn", "digest", str(out)]
    return subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], str]:
    """The digest of a training of so many epochs without workers."""
    folder = tmp_path_factory.mktemp("here")

    def train(epochs: int) -> str:
        out = folder / str(epochs)
        if not out.exists():
            arguments = (DIGITS, *EXPERIMENT, "--epochs", epochs, "--workers", 0, "--out", out)
            command = [sys.executable, "-m", "dist_dnn", "train", *map(str, arguments)]
            subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
        return digest(out)

    return train


def ours(said: str, kind: str) -> list[str]:
    """Our own lines of a kind, among mpirun's."""
    return [line for line in said.splitlines() if line.startswith(f"{kind}: ")]


def test_two_hosts_give_the_digest_of_one_process(
    nodes: Nodes, expected: Callable[[int], str]
) -> None:
    out = nodes.folder / "run"
    done = nodes.attempt(DIGITS, *EXPERIMENT, "--epochs", SHORT, "--out", out)
    assert done.returncode == 0, done.stdout
    assert digest(out) == expected(SHORT)
    status = json.loads((out / "status.json").read_text())
    assert (status["state"], status["backend"]) == ("completed", "mpi")


def test_a_rank_that_does_not_see_the_data_is_named(nodes: Nodes) -> None:
    data = "/tmp/digits.parquet"  # which each host has for itself
    nodes.first.run("cp", DIGITS, data, environment=os.environ)
    began = time.monotonic()
    done = nodes.attempt(data, *EXPERIMENT, "--out", nodes.folder / "run")
    assert time.monotonic() - began < 30
    assert done.returncode == 2
    assert ours(done.stdout, "error") == [
        f"error: rank 2 on host-1 cannot see {data}: put the data where every node can read it, "
        f"or give a URI"
    ]
    assert "Traceback" not in done.stdout


def test_a_rank_of_another_host_is_lost(nodes: Nodes, expected: Callable[[int], str]) -> None:
    out = nodes.folder / "run"
    status, said = nodes.disturbed(out, lambda: nodes.kill_rank(2))
    assert status == 0, said
    [warning] = ours(said, "warning")
    assert re.match(r"warning: rank 2 \(shards? [\d, ]+\) on host-1 is gone: ", warning)
    assert digest(out) == expected(LONG)


def test_the_rank_that_drives_is_lost(nodes: Nodes, expected: Callable[[int], str]) -> None:
    out = nodes.folder / "run"
    status, said = nodes.disturbed(out, lambda: nodes.kill_rank(0))
    assert status == 0, said
    assert digest(out) == expected(LONG)


def test_a_host_that_loses_its_power_ends_mpirun_and_another_goes_on(
    nodes: Nodes, expected: Callable[[int], str]
) -> None:
    """Open MPI survives lost ranks, but not the loss of its daemon on a host."""
    out = nodes.folder / "run"
    nodes.disturbed(out, nodes.other.kill)  # mpirun may give 0
    assert json.loads((out / "status.json").read_text())["state"] != "completed"
    resume = (sys.executable, "-m", "dist_dnn", "train", DIGITS, "--out", out, "--resume")
    mpirun = (MPIRUN, "--allow-run-as-root", "-n", 2)
    nodes.first.run(*mpirun, *resume, "--backend", "mpi", environment=os.environ)
    assert digest(out) == expected(LONG)


def test_the_job_of_slurm_queues_itself_again_when_it_was_stopped(tmp_path: Path) -> None:
    """With a srun and a scontrol that only say how they were called."""
    for name, status in (("srun", 143), ("scontrol", 0)):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/said\nexit {status}\n')
        program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    done = attempt(["bash", SCRIPT], environment, ROOT)
    assert done.returncode == 143
    srun, scontrol = (tmp_path / "said").read_text().splitlines()
    assert scontrol == "scontrol requeue 7"
    name, mpi, program, command, *arguments = shlex.split(srun)
    assert (name, mpi, program, command) == ("srun", "--mpi=pmix", "dist-dnn", "train")
    assert _parser().parse_args([command, *arguments]).backend == "mpi"
