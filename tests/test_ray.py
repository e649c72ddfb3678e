"""Ray as people meet it: a private one and one that is joined, its errors, and what it leaves."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from stat import S_IMODE
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest
import ray
from runs import DIGITS, ROOT, After, descendants, is_alive, wait_until

from dist_dnn import train
from dist_dnn.data.dataset import Dataset
from dist_dnn.errors import InputError, RunError
from dist_dnn.model import Model
from workers.ray_access import check_answers
from workers.ray_actors import RayGroup
from workers.ray_cluster import LOOPBACK, Cluster

SECONDS = 90
CPUS = 4
LINUX = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks into /proc")

SMALL: dict[str, Any] = {"hidden": [8], "epochs": 2, "class_weight": "balanced"}
SMALL_FLAGS = (
    *("--target", "digit", "--hidden", "8", "--epochs", "2"),
    *("--class-weight", "balanced"),
)
LONG_FLAGS = ("--target", "digit", "--hidden", "512,512", "--epochs", "100000")

EPOCH = r"epoch \d+/\d+  train loss [\d.]+  [\d,.]+ examples/s"


# Commands


class Home(NamedTuple):
    """Where a command finds and leaves what is this user's; the path is short, as sockets need."""

    path: Path

    @property
    def temporary(self) -> Path:
        return self.path / "t"

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """Of a process that knows of no cluster, nor of a token, but those given."""
        others = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        own = {"HOME": str(self.path / "h"), "TMPDIR": str(self.temporary)}
        return others | own | {"PYTHONPATH": str(ROOT)} | given

    def content(self) -> list[str]:
        return sorted(str(path.relative_to(self.path)) for path in self.path.rglob("*"))


@contextmanager
def new_home() -> Iterator[Home]:
    home = Home(Path(tempfile.mkdtemp(prefix="t", dir="/tmp")))
    for name in ("h", "t"):
        (home.path / name).mkdir()
    yield home
    shutil.rmtree(home.path)


@pytest.fixture
def home() -> Iterator[Home]:
    with new_home() as made:
        yield made


def python(
    home: Home, *arguments: object, given: Mapping[str, str] | None = None
) -> tuple[int, str, str]:
    """The exit status, standard output and standard error of Python with these arguments."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=home.path,
        env=home.environment(given or {}),
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    return done.returncode, done.stdout, done.stderr


def run(
    home: Home, *arguments: object, given: Mapping[str, str] | None = None
) -> tuple[int, str, str]:
    """The same of a command of ours."""
    return python(home, "-m", "dist_dnn", *arguments, given=given)


def ray_training(out: object, *flags: object, data: object = DIGITS) -> tuple[object, ...]:
    return ("train", data, "--backend", "ray", "--workers", "2", "--out", out, *flags)


@pytest.fixture(scope="module")
def expected() -> str:
    """The digest of the small training."""
    return train(DIGITS, "digit", SMALL, workers=0).digest


# A private Ray, as the command line starts it


class Listener(NamedTuple):
    """A socket that waits for connections."""

    address: IPv4Address | IPv6Address
    inode: str


def listeners() -> list[Listener]:
    """All of this machine's, over TCP."""
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path("/proc/net", name).read_text().splitlines()[1:]
    ]
    return [Listener(_address(line[1]), line[9]) for line in lines if line[3] == "0A"]


def _address(written: str) -> IPv4Address | IPv6Address:
    """The address in a line of /proc/net/tcp: numbers of four bytes, lowest byte first."""
    whole = bytes.fromhex(written.partition(":")[0])
    parts = [whole[place : place + 4][::-1] for place in range(0, len(whole), 4)]
    found = ip_address(b"".join(parts))
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found


def open_in(process: int) -> list[str]:
    """What a process has open: paths, and sockets as ``socket:[inode]``."""
    found = []
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        with suppress(OSError):  # it was closed meanwhile
            found.append(os.readlink(descriptor))
    return found


def with_token(file: Path) -> dict[str, str]:
    """The environment of those who join a private Ray."""
    return LOOPBACK | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(file)}


def command_of(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")


def shared_memory() -> set[str]:
    return set(os.listdir("/dev/shm"))


class Started:
    """A long training on a private Ray, while it runs.

    Attributes:
        processes: all that belong to it but the driver.
        folder: what it made for itself in the folder for temporary files.
    """

    def __init__(self, home: Home, driver: subprocess.Popen[str], out: Path) -> None:
        self.driver = driver
        self.out = out
        wait_until(self._has_trained, SECONDS)
        self.processes = descendants(driver.pid)
        [self.folder] = home.temporary.glob("ray-*")

    def _has_trained(self) -> bool:
        assert self.driver.poll() is None, self.driver.communicate()
        metrics = self.out / "metrics.jsonl"
        return metrics.exists() and metrics.read_text() != ""

    @property
    def token(self) -> dict[str, str]:
        """The environment of those who may join."""
        return with_token(self.folder / "token")

    @property
    def address(self) -> str:
        found = {
            address
            for process in self.processes
            for address in re.findall(r"--gcs-address=(\S+)", command_of(process))
        }
        [address] = found
        return address

    def listeners(self) -> list[Listener]:
        opened = {
            name for process in (self.driver.pid, *self.processes) for name in open_in(process)
        }
        return [each for each in listeners() if f"socket:[{each.inode}]" in opened]

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.out / "status.json").read_text())
        return found


@contextmanager
def a_long_training(home: Home) -> Iterator[Started]:
    out = home.path / "run"
    driver = subprocess.Popen(
        [sys.executable, "-m", "dist_dnn", *map(str, ray_training(out, *LONG_FLAGS))],
        cwd=home.path,
        env=home.environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Started(home, driver, out)
    finally:
        driver.kill()
        driver.communicate()


@dataclass
class Interrupted:
    """What was seen of a training on a private Ray, which SIGINT ended, and what it left."""

    home: Home
    out: Path
    listeners: list[Listener]
    commands: list[str]
    modes: list[int]
    files: list[str]
    actors: list[str]
    status: int
    stdout: str
    stderr: str
    processes: set[int]
    shared_memory: set[str]


NAMES = """
import json, sys
import ray
ray.init(sys.argv[1], logging_level="ERROR", log_to_driver=False)
print(json.dumps([each["name"] for each in ray.util.list_named_actors(all_namespaces=True)]))
"""


def names_of_actors(home: Home, started: Started) -> list[str]:
    """What a second process, which joins with the token, sees."""
    status, stdout, stderr = python(home, "-c", NAMES, started.address, given=started.token)
    assert status == 0, stderr
    return sorted(json.loads(stdout))


@pytest.fixture(scope="module")
def interrupted() -> Iterator[Interrupted]:
    before = shared_memory()
    with new_home() as home, a_long_training(home) as started:
        seen = {
            "listeners": started.listeners(),
            "commands": [command_of(process) for process in started.processes],
            "modes": [
                S_IMODE(path.stat().st_mode) for path in (started.folder, started.folder / "token")
            ],
            "files": home.content(),
            "actors": names_of_actors(home, started),
        }
        started.driver.send_signal(signal.SIGINT)
        stdout, stderr = started.driver.communicate(timeout=SECONDS)
        yield Interrupted(
            home=home,
            out=started.out,
            status=started.driver.returncode,
            stdout=stdout,
            stderr=stderr,
            processes=started.processes,
            shared_memory=before,
            **seen,
        )


@LINUX
def test_all_listeners_are_on_the_loopback_interface(interrupted: Interrupted) -> None:
    assert len(interrupted.listeners) > 3  # of the cluster's head, its node, and the workers
    assert [each for each in interrupted.listeners if not each.address.is_loopback] == []


@LINUX
def test_there_is_no_dashboard(interrupted: Interrupted) -> None:
    # Ray starts its process all the same, which then serves no page.
    dashboards = [each for each in interrupted.commands if "dashboard/dashboard.py" in each]
    assert all("--disable-frontend" in each for each in dashboards)


@LINUX
def test_only_the_owner_can_read_the_token(interrupted: Interrupted) -> None:
    assert interrupted.modes == [0o700, 0o600]


@LINUX
def test_nothing_is_written_to_the_home(interrupted: Interrupted) -> None:
    assert [name for name in interrupted.files if name.startswith("h/")] == []


@LINUX
def test_actors_are_named_after_the_run(interrupted: Interrupted) -> None:
    assert interrupted.actors == ["run/worker-0", "run/worker-1"]


@LINUX
def test_an_interrupt_says_how_to_go_on_and_leaves_a_checkpoint(interrupted: Interrupted) -> None:
    out = interrupted.out
    assert (interrupted.status, interrupted.stdout) == (130, "")
    *epochs, line = interrupted.stderr.splitlines()
    status = json.loads((out / "status.json").read_text())
    assert status["state"] == "stopped"
    assert line == (
        f"error: interrupted; a checkpoint of step {status['step']} is in {out}: go on with "
        f"`dist-dnn train DATA --out {out} --resume`"
    )
    assert all(re.fullmatch(EPOCH, each) for each in epochs)
    assert os.listdir(out / "checkpoints")


@LINUX
def test_nothing_is_left_after_an_interrupt(interrupted: Interrupted) -> None:
    check_nothing_is_left(interrupted.home, interrupted.processes, interrupted.shared_memory)


def check_nothing_is_left(home: Home, processes: set[int], shared: set[str]) -> None:
    """Wait until all processes have ended, and what they made outside of the run is gone."""
    wait_until(lambda: not any(is_alive(process) for process in processes))
    wait_until(lambda: not os.listdir(home.temporary))
    wait_until(lambda: not shared_memory() - shared)
    assert os.listdir(home.path / "h") == []


@LINUX
@pytest.mark.slow
def test_what_a_killed_driver_leaves_is_cleaned_up_and_its_run_goes_on(home: Home) -> None:
    before = shared_memory()
    with a_long_training(home) as started:
        started.driver.kill()
        started.driver.communicate()
        check_nothing_is_left(home, started.processes, before)
    epochs = started.status()["epoch"] + 2
    resume = ("train", DIGITS, "--out", started.out, "--resume", "--epochs", epochs)
    status, _, stderr = run(home, *resume)
    assert status == 0, stderr
    undisturbed = train(DIGITS, "digit", {"hidden": [512, 512], "epochs": epochs})
    assert Model.load(str(started.out)).digest == undisturbed.digest


@LINUX
@pytest.mark.slow
def test_a_private_ray_trains_and_evaluates_and_leaves_nothing(home: Home, expected: str) -> None:
    before, out = shared_memory(), home.path / "run"
    status, stdout, stderr = run(home, *ray_training(out, *SMALL_FLAGS))
    assert (status, stdout) == (0, "")
    *epochs, digest, hint = stderr.splitlines()
    assert all(re.fullmatch(EPOCH, each) for each in epochs)
    assert digest == f"digest {expected}"
    assert hint == f"model in {out}; next: dist-dnn evaluate {out} DATA"
    check_nothing_is_left(home, set(), before)
    scores = ("evaluate", out, DIGITS)
    by_ray = run(home, *scores, "--backend", "ray")
    assert by_ray == run(home, *scores)
    check_nothing_is_left(home, set(), before)


UNGUARDED = f"""
import pyarrow.parquet as pq
import ray
from dist_dnn import train

def digest():
    table = pq.read_table({str(DIGITS)!r})
    return train(table, "digit", {SMALL!r}, backend="ray").digest

print(digest(), ray.is_initialized())
print(digest(), ray.is_initialized())
ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR")
print(digest(), ray.is_initialized())
"""
"""Two private Rays one after the other, then one of the caller's own; there is no guard."""


@pytest.mark.slow
def test_a_script_without_a_guard_trains_on_several_rays(home: Home, expected: str) -> None:
    script = home.path / "unguarded.py"
    script.write_text(UNGUARDED)
    status, stdout, stderr = python(home, script)
    assert status == 0, stderr
    assert stdout.splitlines() == [f"{expected} False", f"{expected} False", f"{expected} True"]


# A cluster that is there already


class Joined(NamedTuple):
    """A cluster that other processes can join: where, and in which environment."""

    address: str
    environment: dict[str, str]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Joined]:
    """One that this process is connected to as well."""
    made = Cluster(None, cpus=CPUS)
    yield Joined(ray.get_runtime_context().gcs_address, LOOPBACK | made.credentials)
    made.close()


def test_a_table_in_memory_trains_on_the_ray_that_is_there(cluster: Joined, expected: str) -> None:
    table = pq.read_table(DIGITS)
    assert train(table, "digit", SMALL, backend="ray").digest == expected
    assert ray.is_initialized()
    assert ray.util.list_named_actors(all_namespaces=True) == []


def test_a_job_finds_its_cluster_in_the_environment(
    cluster: Joined, home: Home, expected: str
) -> None:
    job = json.dumps({"metadata": {"job_submission_id": "raysubmit_x"}})
    given = {"RAY_ADDRESS": cluster.address, "RAY_JOB_CONFIG_JSON_ENV_VAR": job}
    out = home.path / "run"
    done = run(home, *ray_training(out, *SMALL_FLAGS), given=cluster.environment | given)
    assert done[:2] == (0, ""), done[2]
    assert f"digest {expected}" in done[2].splitlines()
    status = json.loads((out / "status.json").read_text())
    assert (status["job"], status["backend"]) == ("raysubmit_x", "ray")
    assert os.listdir(home.temporary) == os.listdir(home.path / "h") == []


def test_torch_is_left_alone_where_it_is_installed(
    cluster: Joined, home: Home, tmp_path: Path, expected: str
) -> None:
    """Ray imports it for some of its ways to send arrays, which takes seconds in every actor."""
    (tmp_path / "torch.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w').close()\n")
    given = {"RAY_ADDRESS": cluster.address, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    assert python(home, "-c", "import torch", given=given) == (0, "", "")
    (tmp_path / "imported").unlink()  # so it would be found
    command = ray_training(home.path / "run", *SMALL_FLAGS)
    done = run(home, *command, given=cluster.environment | given)
    assert f"digest {expected}" in done[2].splitlines(), done[2]
    assert not (tmp_path / "imported").exists()


@pytest.mark.slow
def test_evaluate_predict_and_check_join_a_cluster(cluster: Joined, home: Home) -> None:
    out = home.path / "run"
    train(DIGITS, "digit", SMALL, workers=0, out=out)
    flags = ("--backend", "ray", "--workers", "2", "--address", cluster.address)
    by_ray = run(home, "evaluate", out, DIGITS, *flags, given=cluster.environment)
    assert by_ray == run(home, "evaluate", out, DIGITS)
    ours, theirs = home.path / "ours.parquet", home.path / "theirs.parquet"
    predict = ("predict", out, DIGITS, "--out")
    assert run(home, *predict, ours, *flags, given=cluster.environment) == (0, "", "")
    assert run(home, *predict, theirs) == (0, "", "")
    assert ours.read_bytes() == theirs.read_bytes()
    status, stdout, stderr = run(home, "check", *flags, given=cluster.environment)
    assert (status, stderr) == (0, "")
    assert stdout.splitlines()[-1] == "ray, 2 workers: 3 steps give the bits of serial ones"


def metrics_of_nodes() -> str:
    """What the endpoints of all nodes say."""
    said = []
    for node in ray.nodes():
        url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            said.append(answer.read().decode())
    return "".join(said)


def gauges(run_name: str) -> dict[str, float]:
    """Ours, by name, of one run."""
    found = {}
    for line in metrics_of_nodes().splitlines():
        name, _, value = line.rpartition(" ")
        if name.startswith("ray_dist_dnn_") and f'run="{run_name}"' in name:
            found[name.partition("{")[0]] = float(value)
    return found


@pytest.mark.slow
def test_gauges_are_read_back_while_it_trains(
    cluster: Joined, after: After, tmp_path: Path
) -> None:
    seen: dict[str, float] = {}

    def read() -> None:
        wait_until(lambda: len(gauges("watched")) == 3)
        seen.update(gauges("watched"))

    after(3, read)
    train(DIGITS, "digit", SMALL, backend="ray", out=tmp_path / "watched")
    assert sorted(seen) == [
        "ray_dist_dnn_examples_per_second",
        "ray_dist_dnn_loss",
        "ray_dist_dnn_step_seconds",
    ]
    assert all(value > 0 for value in seen.values())
    rows = seen["ray_dist_dnn_examples_per_second"] * seen["ray_dist_dnn_step_seconds"]
    assert rows == pytest.approx(256)


# Errors


def check_failure(
    home: Home,
    said: str,
    *flags: object,
    status: int = 1,
    given: Mapping[str, str] | None = None,
) -> None:
    """A training must end in this one line, with nothing written."""
    before = home.content()
    done = run(home, *ray_training(home.path / "new", *flags), given=given)
    assert done == (status, "", f"error: {said}\n")
    assert home.content() == before


REMEDY = "give --address HOST:PORT of the cluster's head, or auto on one of its nodes"


def test_an_address_where_nothing_listens(home: Home) -> None:
    check_failure(
        home,
        f"no Ray cluster answers at 127.0.0.1:1: Connection refused; {REMEDY}",
        *(*SMALL_FLAGS, "--address", "127.0.0.1:1"),
    )


def test_a_cluster_on_loopback_that_is_looked_for_elsewhere() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(RunError) as caught:
            check_answers(f"127.0.0.2:{port}", f"127.0.0.1:{port}", "say so")
    assert str(caught.value) == (
        f"no Ray cluster answers at 127.0.0.1:{port}: it listens there, but Ray looks for it at "
        f"127.0.0.2:{port} unless RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 is in the environment; say so"
    )


ALONE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc")
"""What runs a command that sees no other processes, and so no Ray of others."""


def can_be_alone() -> bool:
    with suppress(OSError):
        return subprocess.run([*ALONE, "true"], capture_output=True).returncode == 0
    return False


@pytest.mark.skipif(not can_be_alone(), reason="hides processes from a command by unshare")
def test_any_cluster_of_this_machine_where_there_is_none(home: Home) -> None:
    flags = ray_training(home.path / "new", *SMALL_FLAGS, "--address", "auto")
    done = subprocess.run(
        [*ALONE, sys.executable, "-m", "dist_dnn", *map(str, flags)],
        env=home.environment({"RAY_TMPDIR": str(home.temporary)}),
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: no Ray cluster was found for the address 'auto': start one with "
        "`ray start --head`, or leave --address out for a private Ray\n"
    )
    assert home.content() == ["h", "t"]


def test_more_than_the_cluster_has(cluster: Joined, home: Home) -> None:
    has = int(ray.cluster_resources()["CPU"])
    check_failure(
        home,
        f"the cluster had no room in 1 s for 2 workers of 64 CPUs each; it has {has} CPUs on 1 "
        f"nodes, {has} of them free: use fewer --workers or --cpus-per-worker, or a larger "
        "--start-timeout",
        *(*SMALL_FLAGS, "--address", cluster.address),
        *("--cpus-per-worker", 64, "--start-timeout", 1),
        given=cluster.environment,
    )


@pytest.mark.parametrize("token", [None, "0" * 64])
def test_a_cluster_that_wants_another_token(token: str | None, cluster: Joined, home: Home) -> None:
    wrong = {} if token is None else {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    check_failure(
        home,
        f"the Ray cluster at {cluster.address} does not accept this token: give its own in "
        "RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token, with RAY_AUTH_MODE=token",
        *(*SMALL_FLAGS, "--address", cluster.address),
        given=LOOPBACK | wrong,
    )


def test_a_path_that_a_node_cannot_see(
    cluster: Joined, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data.parquet"
    shutil.copy(DIGITS, data)
    load = RayGroup.load

    def remove_and_load(self: RayGroup, name: str, dataset: Dataset) -> None:
        data.unlink()
        load(self, name, dataset)

    monkeypatch.setattr(RayGroup, "load", remove_and_load)
    with pytest.raises(InputError) as caught:
        train(data, "digit", SMALL, backend="ray", out=tmp_path / "run")
    host = os.uname().nodename
    assert str(caught.value) == (
        f"node 127.0.0.1 ({host}) cannot see {data}: put the data where every node can read it, "
        "or give a URI"
    )
    assert os.listdir(tmp_path) == []


def test_another_version_on_the_other_side_is_one_warning(
    cluster: Joined, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = f"Ray {ray.__version__} and Python {sys.version.split()[0]}"
    ours = "Ray 2.52.0 and Python 3.11.0"
    monkeypatch.setattr("workers.ray_actors.versions", lambda: ours)
    train(DIGITS, "digit", SMALL, workers=3, backend="ray")
    [line] = capsys.readouterr().err.splitlines()
    host = re.escape(os.uname().nodename)
    assert re.fullmatch(
        rf"warning: worker \d on node 127\.0\.0\.1 \({host}\) has {re.escape(theirs)}, "
        rf"and the driver {re.escape(ours)}",
        line,
    )
