"""Nodes of real Ray clusters, by the commands of scripts/README.md."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path

import pytest
from clusters import (
    MARK,
    ROOT,
    Cluster,
    digest,
    make_token,
    processes,
    ray_environment,
    trained,
)
from hosts import Host, TwoHosts

pytest.importorskip("ray", reason="Ray is not installed")

DOCUMENT = (ROOT / "scripts" / "README.md").read_text(encoding="utf-8")
PROGRAMS = Path(sys.executable).parent

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def documented(beginning: str, changes: dict[str, str]) -> list[str]:
    """The command of scripts/README.md that begins so, with what a reader puts in its place."""
    lines = DOCUMENT.replace("\\\n", " ").splitlines()
    [command] = [line.partition("  # ")[0] for line in lines if line.startswith(beginning)]
    for written, meant in changes.items():
        assert written in command
        command = command.replace(written, meant)
    return shlex.split(command)


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
