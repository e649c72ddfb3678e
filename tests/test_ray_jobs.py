"""Jobs on a real cluster that has only Ray, by `dist-dnn jobs`."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from clusters import ROOT, Cluster, digest, trained, with_only_ray
from stores import Bucket, s3_server

pytest.importorskip("ray", reason="Ray is not installed")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def cluster(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose environment has only Ray."""
    programs = with_only_ray(tmp_path_factory.mktemp("only") / "ray", distributions)
    cluster = Cluster(programs, distributions)
    cluster.environment.pop("PYTHONPATH", None)  # or jobs would have the package by it
    with cluster:
        cluster.environment["RAY_API_SERVER_ADDRESS"] = cluster.jobs
        yield cluster


def jobs_command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "dist_dnn", "jobs", *map(str, arguments)]


def jobs(cluster: Cluster, *arguments: object, **given: str) -> tuple[int, str, str]:
    """The exit status, standard output and standard error of a command of `dist-dnn jobs`."""
    done = subprocess.run(
        jobs_command(*arguments),
        env=cluster.environment | given,
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout, done.stderr


def printed(cluster: Cluster, *arguments: object) -> str:
    """What a command of `dist-dnn jobs` prints that must succeed."""
    status, stdout, stderr = jobs(cluster, *arguments)
    assert status == 0, stderr
    return stdout


def a_training(out: object, *flags: object) -> tuple[object, ...]:
    """The end of a command that submits one with two workers, for which there is always room."""
    data = ROOT / "scripts" / "data" / "digits.parquet"
    reach = ("--workers", 2, "--cpus-per-worker", 0.25)
    return ("--", "train", data, "--target", "digit", "--out", out, *reach, *flags)


def test_jobs_are_submitted_listed_stopped_resumed_and_fetched(
    cluster: Cluster, tmp_path: Path
) -> None:
    """One in a bucket, one in a folder that is shared; who follows one is interrupted."""
    assert "ModuleNotFoundError" in cluster.attempt("python", "-c", "import numpy").stdout
    with s3_server() as server:
        bucket = Bucket(server.get_host_and_port()[1])
        follow = jobs_command("submit", "--wait", *a_training(bucket.uri, "--epochs", 10**6))
        with subprocess.Popen(
            follow,
            env=cluster.environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as following:
            assert following.stdout is not None
            assert following.stderr is not None
            one = following.stdout.readline().strip()
            two = printed(cluster, "submit", *a_training(tmp_path.as_uri() + "/two")).strip()
            said = []
            while not said or not said[-1].startswith("epoch "):  # they are its progress
                said.append(following.stderr.readline())
                assert said[-1], said
            following.send_signal(signal.SIGINT)
            _, rest = following.communicate(timeout=60)
        assert following.returncode == 130
        *_, last = rest.splitlines()
        assert last.startswith(f"error: interrupted; job {one} goes on: ")

        folder = cluster.folder / "ray" / "session_latest" / "runtime_resources/working_dir_files"
        for uploaded in (each for each in folder.iterdir() if each.is_dir()):
            assert [path.suffix for path in uploaded.iterdir()] == [".whl"]

        rows = printed(cluster, "list").splitlines()
        assert rows[0].split() == ["job", "state", "submitted", "took", "run"]
        found = {row.split()[0]: row.split() for row in rows[1:]}
        assert found[one][1] == "running"
        assert found[one][-1] == bucket.shown
        assert found[two][-1] == f"file://{tmp_path}/two"
        status = json.loads(printed(cluster, "status", one, "--json"))
        assert (status["state"], status["progress"]["state"]) == ("running", "running")
        assert jobs(cluster, "resume", one)[0] == 2  # not while it runs
        assert jobs(cluster, "fetch", one, "--to", tmp_path / "new")[0] == 2

        status_of_stop, stdout, stderr = jobs(cluster, "stop", one)
        assert (status_of_stop, stdout) == (0, "")
        assert stderr == (
            f"job {one} was stopped: `dist-dnn jobs resume {one}` goes on with its run\n"
        )
        status = json.loads(printed(cluster, "status", one, "--json"))
        assert (status["state"], status["exit_status"]) == ("stopped", 143)
        assert status["progress"]["state"] == "stopped"
        epochs = status["progress"]["epoch"] + 2
        resumed = printed(cluster, "resume", one, "--workers", 1, "--epochs", epochs).strip()
        log = printed(cluster, "logs", resumed, "--follow")
        assert f"epoch {epochs}" in log
        assert re.search(r"^digest [0-9a-f]{64}$", log, re.M)
        everything = log + printed(cluster, "status", resumed) + printed(cluster, "list", "--json")
        assert "key:secret" not in everything + "".join(said)

        printed(cluster, "logs", two, "--follow")
        printed(cluster, "fetch", resumed, "--to", tmp_path / "runs" / "one")
        printed(cluster, "fetch", two, "--to", tmp_path / "runs" / "two")
        assert bucket.run_in(tmp_path / "whole").joinpath("checkpoints").is_dir()
    expected = digest(trained(tmp_path / "here", "--epochs", epochs))
    assert digest(tmp_path / "runs" / "one") == expected
    assert digest(tmp_path / "runs" / "two") == digest(trained(tmp_path / "there"))
    assert what_is_in(tmp_path / "runs" / "one") == what_is_in(tmp_path / "whole")
    assert what_is_in(tmp_path / "runs" / "two") == what_is_in(tmp_path / "two")


def what_is_in(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_who_waits_for_a_job_ends_as_it_does(cluster: Cluster, tmp_path: Path) -> None:
    config = tmp_path / "my.toml"  # travels along
    config.write_text('target = "digits"\nepochs = 1\n')
    arguments = [each for each in a_training(tmp_path / "run") if each not in ("--target", "digit")]
    arguments += ["--config", config]
    status, stdout, stderr = jobs(cluster, "submit", "--wait", *arguments)
    assert status == 2, stderr
    assert re.fullmatch(r"run-[0-9a-f]{8}\n", stdout)
    assert re.search(r"^error: .*'digits'.* mean 'digit'\?$", stderr, re.M)
    assert stderr.endswith(f"\nerror: job {stdout.strip()} failed with exit status 2\n")
    assert not (tmp_path / "run").exists()


def test_a_job_is_what_is_here_though_the_cluster_has_this_version(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Another wheel of this version, in the environment of the cluster, is not what jobs run."""
    there = Path(
        cluster.run(
            "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"
        ).strip()
    )
    other = there / "dist_dnn"
    information = there / f"dist_dnn-{version('dist_dnn')}.dist-info"
    for folder in (other, information):
        folder.mkdir()
    (other / "__init__.py").write_text("raise RuntimeError('this is another one')")
    (information / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: dist_dnn\nVersion: {version('dist_dnn')}\n"
    )
    (information / "RECORD").write_text(
        f"dist_dnn/__init__.py,,\n{information.name}/METADATA,,\n{information.name}/RECORD,,\n"
    )
    try:
        job = jobs(cluster, "submit", "--wait", *a_training(tmp_path / "run", "--epochs", 0))
    finally:
        shutil.rmtree(other)
        shutil.rmtree(information)
    assert job[0] == 0, job[2]


@pytest.mark.parametrize("token", ["", "0" * 64])
def test_jobs_of_a_cluster_that_wants_another_token(token: str, cluster: Cluster) -> None:
    given = {"RAY_AUTH_TOKEN": token} if token else {"RAY_AUTH_MODE": "disabled"}
    assert jobs(cluster, "list", **given) == (
        1,
        "",
        f"error: the Ray cluster at {cluster.jobs} does not accept this token: give its own in "
        "RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token, with RAY_AUTH_MODE=token\n",
    )


def test_the_address_of_the_head_leads_to_its_jobs(cluster: Cluster) -> None:
    given = {"RAY_API_SERVER_ADDRESS": "", "RAY_ADDRESS": cluster.address}
    status, stdout, _ = jobs(cluster, "list", "--json", **given)
    assert status == 0
    assert isinstance(json.loads(stdout), list)


def test_a_job_that_is_not_there(cluster: Cluster) -> None:
    for command in ("status", "logs", "stop", "resume"):
        status, stdout, stderr = jobs(cluster, command, "nobody")
        assert (status, stdout) == (2, "")
        assert stderr == (
            f"error: there is no job 'nobody' on the cluster at {cluster.jobs}; "
            "`dist-dnn jobs list` shows them\n"
        )
