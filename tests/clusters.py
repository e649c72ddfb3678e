"""Ray clusters on this machine for tests: environments with only Ray in them, heads, more nodes."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Self

import pytest

ROOT = Path(__file__).parents[1]
DEPENDENCIES: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
    "dependencies"
]
SECONDS = 240
"""More than any command should take, so that a test that hangs fails."""

MARK = "DIST_DNN_TEST_CLUSTER"
"""A variable that every process of a cluster inherits: what it is found by, and ended."""


def wheels(folder: Path) -> Path:
    """A folder of wheels of Ray and of what the package needs, as installed beside the tests.

    Clusters install from it: without a network, and what computes the same bits.
    """
    names = [each.partition(">")[0] for each in DEPENDENCIES]
    wanted = [f"{name}=={version(name)}" for name in names]
    pip = [sys.executable, "-m", "pip", "--quiet", "wheel", "--wheel-dir", str(folder)]
    made = subprocess.run(
        [*pip, f"ray[default]=={version('ray')}", *wanted, "setuptools>=77"],
        capture_output=True,
        text=True,
    )
    if made.returncode != 0:
        pytest.skip(f"no wheels for a cluster of its own: {made.stderr.strip()[-300:]}")
    return folder


def with_only_ray(folder: Path, wheels: Path) -> Path:
    """The programs of a new virtual environment with nothing but Ray in it."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin" / "pip", "--quiet", "install", "--no-index", "--find-links", wheels]
    subprocess.run([*pip, "ray[default]"], check=True)
    return folder / "bin"


def ray_environment(
    programs: Path, home: Path, wheels: Path | None = None, *, loopback: bool = True
) -> dict[str, str]:
    """Variables under which ``programs`` find a home of their own, and nothing else of Ray's.

    Args:
        wheels: where pip installs from; None for the ordinary places.
        loopback: whether Ray listens there alone; by itself it does on all addresses.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)} if wheels else {}
    return kept | offline | {
        "HOME": str(home),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": str(int(not loopback)),
        "RAY_USAGE_STATS_ENABLED": "0",
    }  # fmt: skip


NODE = """\
import sys
from ray._private.node import Node
from ray._private.parameter import RayParams

address, name, cpus = sys.argv[1:]
parameters = RayParams(
    node_ip_address="127.0.0.1",
    gcs_address=address,
    node_name=name,
    num_cpus=int(cpus),
    resources={name: 1},
    dashboard_agent_listen_port=0,
)
Node(parameters, head=False, shutdown_at_exit=False, spawn_reaper=False)
"""
"""Lets a node join: ``ray start`` refuses to where all of Ray listens on loopback."""


def make_token(environment: Mapping[str, str]) -> None:
    """Make a token, by the documented commands, and see that only its owner can read it."""
    command = ["sh", "-c", "umask 077 && ray get-auth-token --generate"]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    token = Path(environment["HOME"]) / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o777 == 0o600


class Cluster:
    """A cluster on loopback: a head, and as many more nodes as are added, on one machine.

    Args:
        programs: the folder of the ``ray`` that it runs, and of its ``python``.
        wheels: where its jobs install from; None for the ordinary places.
        cpus: what the head offers.

    Attributes:
        address: HOST:PORT, which drivers join.
        jobs: the URL that jobs are submitted to.
        environment: the variables under which commands reach it, with the token.
        folder: its temporary folder; short, since Ray puts sockets there.
    """

    def __init__(self, programs: Path, wheels: Path | None = None, cpus: int = 2) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cluster-", dir="/tmp"))
        home = self.folder / "home"
        home.mkdir()
        mark = {MARK: str(self.folder)}
        self.environment = ray_environment(programs, home, wheels) | mark
        port, jobs, client, agent = free_ports(4)
        self.address, self.jobs = f"127.0.0.1:{port}", f"http://127.0.0.1:{jobs}"
        self._head = (
            *("--head", "--node-ip-address=127.0.0.1", f"--port={port}"),
            *("--dashboard-host=127.0.0.1", f"--dashboard-port={jobs}"),
            *(f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}"),
            *(f"--temp-dir={self.folder / 'ray'}", f"--num-cpus={cpus}"),
        )

    def __enter__(self) -> Self:
        try:
            make_token(self.environment)
            self.run("ray", "start", *self._head, environment={f"{MARK}_NODE": "head"})
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def add_node(self, name: str, cpus: int = 1) -> None:
        """Let a further raylet join, which has one of the resource ``name`` too."""
        node = (NODE, self.address, name, cpus)
        self.run("python", "-c", *node, environment={f"{MARK}_NODE": name})

    def kill_raylet(self, name: str) -> None:
        """SIGKILL a node's raylet: Ray ends the rest of the node."""
        for process in processes(f"{MARK}_NODE={name}", f"{MARK}={self.folder}"):
            if name_of(process) == "raylet":
                os.kill(process, signal.SIGKILL)

    def kill_node(self, name: str) -> None:
        """SIGKILL all processes of a node at once, as when a machine loses its power."""
        kill(f"{MARK}_NODE={name}", f"{MARK}={self.folder}")

    def run(
        self, *command: object, cwd: Path = ROOT, environment: Mapping[str, str] | None = None
    ) -> str:
        """What a command says that must succeed, standard output and error together."""
        return succeeded(self.attempt(*command, cwd=cwd, environment=environment))

    def attempt(
        self, *command: object, cwd: Path = ROOT, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command that may fail."""
        return attempt(command, self.environment | (environment or {}), cwd)

    def stop(self) -> None:
        """End all processes of the cluster, by their numbers, and remove its folder."""
        kill(f"{MARK}={self.folder}")
        shutil.rmtree(self.folder)


def attempt(
    command: Iterable[object], environment: Mapping[str, str], cwd: Path
) -> subprocess.CompletedProcess[str]:
    """Run a command that may fail, and keep standard output and error together."""
    return subprocess.run(
        [str(each) for each in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )


def succeeded(done: subprocess.CompletedProcess[str]) -> str:
    """What a command said that must have succeeded."""
    assert done.returncode == 0, f"{done.args}: {done.stdout}"
    return done.stdout


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on just now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def processes(*variables: str) -> list[int]:
    """The processes that have all these ``NAME=value`` in their environment, but this one."""
    return [process for process in _others() if set(variables) <= _environment(process)]


def kill(*variables: str) -> None:
    """SIGKILL the processes that have these variables, until there are none."""
    while found := processes(*variables):
        for process in found:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.05)


def name_of(process: int) -> str:
    """The name of a process, or nothing where it has gone."""
    with suppress(OSError):
        return Path(f"/proc/{process}/comm").read_text().strip()
    return ""


def _others() -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            yield int(entry.name)


def _environment(process: int) -> set[str]:
    """The variables of a process; none of one that has gone, is a zombie, or another user's."""
    with suppress(OSError):
        return set(os.fsdecode(Path(f"/proc/{process}/environ").read_bytes()).split("\0"))
    return set()


def digest(out: Path) -> str:
    """What `dist-dnn digest` prints of a run."""
    command = [sys.executable, "-m", "dist_dnn", "digest", str(out)]
    return subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True).stdout


def trained(out: Path, *arguments: object) -> Path:
    """An undisturbed run of the same experiment, on this machine, without workers."""
    data = ("scripts/data/digits.parquet", "--target", "digit", "--workers", 0, "--out", out)
    command = [sys.executable, "-m", "dist_dnn", "train", *data, "--progress", "none", *arguments]
    subprocess.run([str(each) for each in command], check=True, cwd=ROOT)
    return out
