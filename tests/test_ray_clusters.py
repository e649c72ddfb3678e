"""Jobs and nodes on real Ray clusters, by the commands of scripts/README.md."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from clusters import DEPENDENCIES, MARK, ROOT, Cluster, processes, wheels, with_only_ray

yaml = pytest.importorskip("yaml", reason="Ray is not installed")
pytest.importorskip("ray", reason="Ray is not installed")

BACKEND = "local"
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


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheels(tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="module")
def cluster(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose environment has only Ray."""
    programs = with_only_ray(tmp_path_factory.mktemp("only") / "ray", distributions)
    with Cluster(programs, distributions) as cluster:
        cluster.environment["RAY_API_SERVER_ADDRESS"] = cluster.jobs
        yield cluster


def submit(name: str, out: Path, *arguments: object, written: str = "digits") -> list[str]:
    """The documented command for the job ``written``, under another name, with more flags."""
    changes = {"s3://bucket/runs/digits": str(out), "--backend ray": f"--backend {BACKEND}"}
    command = documented(f"ray job submit --submission-id {written} ", changes)
    command[command.index(written)] = name  # the document's name may be taken already
    return [*command, *map(str, arguments)]


def digest(out: Path) -> str:
    command = [sys.executable, "-m", "dist_dnn", "digest", str(out)]
    return subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True).stdout


def trained(out: Path, *arguments: object) -> Path:
    """An undisturbed run of the same experiment, on this machine, without workers."""
    data = ("scripts/data/digits.parquet", "--target", "digit", "--workers", 0, "--out", out)
    command = [sys.executable, "-m", "dist_dnn", "train", *data, "--progress", "none", *arguments]
    subprocess.run([str(each) for each in command], check=True, cwd=ROOT)
    return out


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
    assert int(seconds) > 3
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


def nodes(cluster: Cluster) -> dict[str, bool]:
    """Which nodes the cluster has, and whether each lives, as a driver sees them."""
    code = "import json, ray; ray.init(); print(); print(json.dumps(ray.nodes()))"
    said = cluster.run("python", "-c", code, environment={"RAY_ADDRESS": cluster.address})
    [seen] = [line for line in said.splitlines() if line.startswith("[{")]
    return {node["NodeName"]: node["Alive"] for node in json.loads(seen)}


@pytest.mark.parametrize("how", ["kill_raylet", "kill_node"])
def test_three_raylets_of_which_one_is_killed(how: str) -> None:
    with Cluster(PROGRAMS, cpus=1) as cluster:
        for name in ("one", "two"):
            cluster.add_node(name)
        assert sorted(nodes(cluster).values()) == [True, True, True]
        getattr(cluster, how)("one")
        while nodes(cluster)["one"]:
            pass
        assert nodes(cluster)["two"]
        folder = cluster.folder
    assert not folder.exists()
    assert processes(f"{MARK}={folder}") == []
