"""Jobs of Ray's own command, and nodes, on real clusters, by the commands of scripts/README.md."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from clusters import (
    DEPENDENCIES,
    MARK,
    ROOT,
    Cluster,
    digest,
    make_token,
    processes,
    ray_environment,
    trained,
    with_only_ray,
)
from hosts import Host, TwoHosts

from workers.ray_jobs import STOP_SECONDS

yaml = pytest.importorskip("yaml", reason="Ray is not installed")
pytest.importorskip("ray", reason="Ray is not installed")

DOCUMENT = (ROOT / "scripts" / "README.md").read_text(encoding="utf-8")
PROGRAMS = Path(sys.executable).parent
JOB = ROOT / "scripts" / "cluster" / "job.yaml"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def documented(beginning: str, changes: dict[str, str]) -> list[str]:
    """The command of scripts/README.md that begins so, with what a reader puts in its place."""
    lines = DOCUMENT.replace("\\\n", " ").splitlines()
    [command] = [line.partition("  # ")[0] for line in lines if line.startswith(beginning)]
    for written, meant in changes.items():
        assert written in command
        command = command.replace(written, meant)
    return shlex.split(command)


@pytest.fixture(scope="module")
def cluster(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose environment has only Ray."""
    programs = with_only_ray(tmp_path_factory.mktemp("only") / "ray", distributions)
    with Cluster(programs, distributions) as cluster:
        cluster.environment["RAY_API_SERVER_ADDRESS"] = cluster.jobs
        yield cluster


def submit(name: str, out: Path, *arguments: object, written: str = "digits") -> list[str]:
    """The documented command for the job ``written``, under another name, with more flags."""
    changes = {"s3://bucket/runs/digits": str(out)}
    command = documented(f"ray job submit --submission-id {written} ", changes)
    command[command.index(written)] = name  # the document's name may be taken already
    return [*command, *map(str, arguments)]


def test_a_job_brings_what_a_cluster_with_only_ray_lacks(cluster: Cluster, tmp_path: Path) -> None:
    lacks = cluster.attempt("python", "-c", "import numpy")
    assert "ModuleNotFoundError" in lacks.stdout
    said = cluster.run(*submit("digits", tmp_path / "job"))
    expected = digest(trained(tmp_path / "here"))
    assert f"digest {expected}" in said
    assert digest(tmp_path / "job") == expected


def test_the_upload_is_what_git_does_not_ignore(cluster: Cluster, tmp_path: Path) -> None:
    list_files = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(list_files, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("this is no checkout")
    wanted = {name for name in listed.stdout.split("\0") if (ROOT / name).is_file()}
    cluster.run(*submit("upload", tmp_path / "run", "--epochs", 0))
    folder = cluster.folder / "ray" / "session_latest" / "runtime_resources/working_dir_files"
    [uploaded] = [each for each in folder.iterdir() if each.is_dir()]
    files = [path for path in uploaded.rglob("*") if path.is_file()]
    assert {str(path.relative_to(uploaded)) for path in files} == wanted
    assert sum(path.stat().st_size for path in files) < 2 * 2**20


def test_a_stopped_job_leaves_a_checkpoint_that_another_goes_on_with(
    cluster: Cluster, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = submit("stopped", out, "--epochs", 10**6)
    cluster.run(*command[:3], "--no-wait", *command[3:])
    while not (out / "metrics.jsonl").exists():
        assert "FAILED" not in cluster.run("ray", "job", "status", "stopped")
    cluster.run(*documented("ray job stop ", {"digits": "stopped"}))
    log = cluster.run(*documented("ray job logs ", {"digits": "stopped"}))
    assert re.search(r"error: terminated; a checkpoint of step \d+ is in ", log)
    status = json.loads((out / "status.json").read_text())
    assert status["state"] == "stopped"
    epochs = status["epoch"] + 2
    cluster.run(*submit("resumed", out, "--epochs", epochs, written="digits-resumed"))
    assert digest(out) == digest(trained(tmp_path / "undisturbed", "--epochs", epochs))


def test_a_stopped_job_has_time_for_its_checkpoint(cluster: Cluster) -> None:
    """It is read by Ray's supervisor of the job, which inherits the environment of the job."""
    seconds = yaml.safe_load(JOB.read_text())["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"]
    assert int(seconds) == STOP_SECONDS > 3
    script = (
        "import signal, time\n"
        "stopped = []\n"
        "signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))\n"
        "print('started', flush=True)\n"
        "while not stopped: time.sleep(0.1)\n"
        "time.sleep(6)\n"
        "print('ended by itself')\n"
    )
    job = ("--runtime-env", JOB, "--no-wait", "--", "python", "-c", script)
    cluster.run("ray", "job", "submit", "--submission-id", "slow", *job)
    while "\nstarted\n" not in cluster.run("ray", "job", "logs", "slow"):
        pass
    cluster.run("ray", "job", "stop", "slow")
    assert "ended by itself" in cluster.run("ray", "job", "logs", "slow")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"RAY_AUTH_TOKEN": "0" * 64}, "Invalid authentication token"),
        ({"HOME": "/nonexistent"}, "couldn't find an authentication token"),
        ({"RAY_AUTH_MODE": "disabled"}, "Missing authentication token"),
    ],
)
def test_without_the_right_token(
    changed: dict[str, str], said: str, cluster: Cluster, tmp_path: Path
) -> None:
    done = cluster.attempt(*submit("refused", tmp_path / "run"), environment=changed)
    assert done.returncode == 1
    assert "AuthenticationError" in done.stdout
    assert said in done.stdout
    assert not (tmp_path / "run").exists()


def test_the_dependencies_of_a_job_are_those_of_the_package() -> None:
    assert yaml.safe_load(JOB.read_text())["pip"] == DEPENDENCIES


# several nodes


LIST_NODES = """\
import json, ray
ray.init()
nodes = {node["NodeName"]: node["Alive"] for node in ray.nodes()}
print()
print("nodes", json.dumps(nodes))
"""


def nodes(said: str) -> dict[str, bool]:
    """Which nodes there are, and whether each lives, of what LIST_NODES printed."""
    found: dict[str, bool] = json.loads(said.rpartition("\nnodes ")[2].splitlines()[0])
    return found


def train(out: Path, workers: int, *arguments: object) -> list[str]:
    """What trains for long enough to be disturbed, with workers all over the cluster."""
    data = ("scripts/data/digits.parquet", "--target", "digit", "--shards", 4, "--out", out)
    reach = ("--backend", "ray", "--workers", workers)
    command = ["python", "-m", "dist_dnn", "train", *data, *EXPERIMENT, *reach, *arguments]
    return [str(each) for each in command]


EXPERIMENT = ("--epochs", 40, "--batch-size", 256)


def expected(out: Path) -> str:
    return digest(trained(out, "--shards", 4, *EXPERIMENT))


def lost(said: str) -> list[str]:
    return re.findall(r"^warning: worker \d \(shards [\d, ]*\) .*", said, re.M)


@pytest.mark.parametrize("how", [None, "kill_raylet", "kill_node"])
def test_training_on_three_raylets(how: str | None, tmp_path: Path) -> None:
    with Cluster(PROGRAMS, cpus=1) as cluster:
        cluster.environment["RAY_ADDRESS"] = cluster.address
        for name in ("one", "two"):
            cluster.add_node(name)
        assert list(nodes(cluster.run("python", "-c", LIST_NODES)).values()) == [True] * 3
        out, log = tmp_path / "run", tmp_path / "log"
        with log.open("wb") as file:
            training = subprocess.Popen(
                train(out, 3), cwd=ROOT, env=cluster.environment, stdout=file, stderr=file
            )
        while not (out / "metrics.jsonl").exists() or not (out / "metrics.jsonl").read_bytes():
            assert training.poll() is None, log.read_text()
        if how is not None:
            getattr(cluster, how)("one")
        assert training.wait(300) == 0, log.read_text()
        assert len(lost(log.read_text())) == (how is not None), log.read_text()
        assert digest(out) == expected(tmp_path / "here")
        folder = cluster.folder
    assert not folder.exists()
    assert processes(f"{MARK}={folder}") == []


@pytest.mark.parametrize("dies", [False, True])
def test_training_on_two_hosts(dies: bool, tmp_path: Path) -> None:
    with TwoHosts(tmp_path) as two:
        environment = ray_environment(PROGRAMS, tmp_path, loopback=False)
        make_token(environment)
        head, other = two.hosts
        environment["RAY_ADDRESS"] = two.start_ray(environment)
        out = tmp_path / "run"
        if dies:
            threading.Thread(target=kill_when, args=(other, out / "metrics.jsonl")).start()
        said = head.run(*train(out, 2), environment=environment)
        assert len(lost(said)) == dies, said
        assert digest(out) == expected(tmp_path / "here")


def kill_when(host: Host, file: Path) -> None:
    """Let a host lose its power as soon as there is a file with something in it."""
    while not file.exists() or not file.read_bytes():
        time.sleep(0.01)
    host.kill()


def test_a_node_that_does_not_see_the_data_is_named(tmp_path: Path) -> None:
    with TwoHosts(tmp_path) as two:
        environment = ray_environment(PROGRAMS, tmp_path, loopback=False)
        make_token(environment)
        head, other = two.hosts
        environment["RAY_ADDRESS"] = two.start_ray(environment)
        data = "/tmp/digits.parquet"  # which each host has for itself
        head.run("cp", ROOT / "scripts/data/digits.parquet", data, environment=environment)
        command = train(tmp_path / "run", 2)
        command[command.index("scripts/data/digits.parquet")] = data
        done = head.attempt(*command, environment=environment)
        assert done.returncode == 2
        assert re.search(rf"error: node {other.address} \(.+\) cannot see {data}: ", done.stdout)


# a cluster over SSH


def serve_ssh(host: Host, home: Path, key: Path, wheels: Path) -> None:
    """Let root log in with a key, into a home of its own and a Python that installs wheels."""
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None or shutil.which("rsync") is None:
        pytest.skip("there is no sshd, or no rsync")
    home.mkdir()
    (home / ".bashrc").touch()
    (home / ".bash_profile").write_text(f"export PATH={sys.base_prefix}/bin:$PATH\n")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / "host"], check=True)
    (home / "sshd_config").write_text(
        f"HostKey {home}/host\n"
        f"AuthorizedKeysFile {key}.pub\n"
        "StrictModes no\n"  # the folder of a test lies where others may write
        "PidFile none\n"
        f"SetEnv PIP_NO_INDEX=1 PIP_FIND_LINKS={wheels} RAY_USAGE_STATS_ENABLED=0\n"
    )
    (home / "passwd").write_text(f"root:x:0:0:root:{home}:/bin/bash\nsshd:x:1:1::/:/bin/false\n")
    environment = {"PATH": os.environ["PATH"]}
    host.run("mount", "--bind", home / "passwd", "/etc/passwd", environment=environment)
    host.run("mkdir", "/run/sshd", environment=environment)
    host.run(program, "-f", home / "sshd_config", "-E", home / "log", environment=environment)


def test_a_cluster_over_ssh(distributions: Path, tmp_path: Path) -> None:
    """The head submits, too: what it copies to itself is the same for the worker."""
    with TwoHosts(tmp_path, distributions) as two:
        head, worker = two.hosts
        home = tmp_path / head.address
        key = home / ".ssh" / "cluster"
        for host in two.hosts:
            serve_ssh(host, tmp_path / host.address, key, distributions)
        key.parent.mkdir()
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        environment = ray_environment(PROGRAMS, home, loopback=False)
        make_token(environment)
        filled_in = tmp_path / "ssh.yaml"
        written = (ROOT / "scripts" / "cluster" / "ssh.yaml").read_text()
        for name, value in (("HEAD", head.address), ("WORKER", worker.address), ("USER", "root")):
            assert written.count(f" {name}\n") + written.count(f"[{name}]") == 1
            written = re.sub(rf"(?<= ){name}$|(?<=\[){name}(?=\])", value, written, flags=re.M)
        written = written.replace("==2.60.0", f"=={version('ray')}")
        filled_in.write_text(written)

        def run(beginning: str, **changes: str) -> str:
            here = {"scripts/cluster/ssh.yaml": str(filled_in), **changes}
            return head.run(*documented(beginning, here), environment=environment)

        run("ray up ")
        while " 2 local.cluster.node\n" not in run("ray exec ").replace("\r", ""):
            pass
        out = tmp_path / "shared" / "run"
        said = run("ray submit ", **{"/shared/runs/digits": str(out)})
        assert f"digest {digest(trained(tmp_path / 'here')).strip()}" in said
        run("ray down ")
