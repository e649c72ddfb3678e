"""Jobs without a cluster: what is packed, checked and shown, and what a dashboard may answer."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from stores import Bucket, Quiet, s3_server, served

from dist_dnn import Hyperparameters, __version__, stopping, train
from dist_dnn.errors import InputError, RunError
from dist_dnn.front.cli import run
from dist_dnn.front.jobs import copy_run
from dist_dnn.front.packing import pinned_dependencies, supports_ray, write_wheel
from dist_dnn.front.submission import KEY, Submission, submission
from dist_dnn.model import Model
from dist_dnn.storage import LocalFolder, open_folder
from workers.ray_jobs import Job, Jobs

pytest.importorskip("ray", reason="Ray is not installed")

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "scripts" / "data" / "digits.parquet"
SECRET = "s3://key:secret@bucket/runs/digits?endpoint_override=http://store:9000"
TRAIN = ("train", "/data.parquet", "--target", "kind", "--out", SECRET)


# what travels


def test_the_wheel_is_the_modules_that_run_here(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert (
            archive.read("dist_dnn/front/jobs.py")
            == Path(ROOT, "dist_dnn/front/jobs.py").read_bytes()
        )
    of_python = {
        str(path.relative_to(ROOT))
        for package in ("dist_dnn", "workers")
        for path in (ROOT / package).rglob("*.py")
    }
    assert of_python <= set(names)
    assert not [name for name in names if "__pycache__" in name]


def test_the_same_files_make_the_same_wheel(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one, two = write_wheel(tmp_path / "one"), write_wheel(tmp_path / "two")
    assert one.name == two.name
    assert one.read_bytes() == two.read_bytes()


def test_pip_installs_the_wheel_which_makes_the_same_wheel_again(tmp_path: Path) -> None:
    """It is packed from its installed files as from a checkout."""
    wheel, there = write_wheel(tmp_path), tmp_path / "there"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    subprocess.run([*pip, "--no-deps", "--no-index", "--target", there, wheel], check=True)
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "import dist_dnn\n"
        "from dist_dnn.front.packing import write_wheel\n"
        "assert dist_dnn.__file__.startswith(sys.argv[1])\n"
        "print(write_wheel(Path(sys.argv[1])))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, there],
        env=os.environ | {"PYTHONPATH": str(there)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    again = Path(done.stdout.strip())
    assert (again.name, again.read_bytes()) == (wheel.name, wheel.read_bytes())


def test_dependencies_are_pinned_to_what_is_here() -> None:
    pinned = pinned_dependencies()
    assert f"numpy=={version('numpy')}" in pinned
    assert not [each for each in pinned if each.startswith(("ray", "mpi4py", "pytest"))]


def test_which_versions_of_ray_are_known() -> None:
    assert supports_ray(version("ray"))
    assert not supports_ray("2.9.0")


# what a job does


def test_the_backend_is_added() -> None:
    asked = submission(TRAIN)
    assert asked.arguments == ("--backend", "ray", *TRAIN[1:])
    assert asked.command.startswith("python -m dist_dnn train --backend ray /data.parquet ")
    assert submission([*TRAIN, "--backend=ray"]).arguments == (*TRAIN[1:], "--backend=ray")


def test_a_shell_sees_one_word_for_each_argument() -> None:
    asked = submission(["train", "/a; b $(c)", "--target", "it's", "--out", "/r"])
    shown = subprocess.run(
        ["/bin/sh", "-c", asked.command.replace("python -m", "printf '%s\\n'", 1)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown.splitlines() == ["dist_dnn", "train", *asked.arguments]


def test_the_file_of_config_travels(tmp_path: Path) -> None:
    config = tmp_path / "my.toml"
    config.write_text('target = "kind"\nshards = 4\n')
    asked = submission(["train", "/d", f"--config={config}", "--out", "/r", "--workers", "4"])
    assert asked.config == config.read_text()
    assert asked.arguments[:2] == ("--config", "config.toml")
    assert str(config) not in asked.command
    config.unlink()
    assert "--workers=3" in asked.resumed(workers=3).arguments
    with pytest.raises(InputError, match="5 workers are more than the 4 shards"):
        asked.resumed(workers=5)


def test_the_content_of_class_weights_travels(tmp_path: Path) -> None:
    weights, config = tmp_path / "weights.toml", tmp_path / "my.toml"
    weights.write_text('"a b" = 2\n')
    config.write_text('target = "kind"\nshards = 4\n')
    asked = submission([*TRAIN, "--class-weight", str(weights)])
    assert tomllib.loads(asked.config or "") == {"class_weight": {"a b": 2}}
    assert asked.arguments == ("--config", "config.toml", "--backend", "ray", *TRAIN[1:])
    both = [*TRAIN, f"--config={config}", f"--class-weight={weights}"]
    assert tomllib.loads(submission(both).config or "") == {
        "target": "kind",
        "shards": 4,
        "class_weight": {"a b": 2},
    }
    balanced = submission([*TRAIN, "--class-weight", "balanced"])
    assert balanced.config is None
    assert balanced.arguments[-2:] == ("--class-weight", "balanced")


def test_what_is_resumed() -> None:
    begun = submission([*TRAIN, "--workers=4", "--epochs", "3", "--resume"])
    resumed = begun.resumed(workers=2, epochs=None)
    assert resumed.arguments == (
        *("--resume=auto", "--workers=2", "--backend", "ray"),
        *(*TRAIN[1:], "--epochs", "3"),
    )
    assert resumed.resumed(workers=None).arguments == resumed.arguments


def test_what_the_cluster_keeps_of_it() -> None:
    asked = submission(TRAIN)
    assert Submission.from_metadata({KEY: asked.to_json()}) == asked
    submitted = replace(asked, pins=("numpy==2.0.0",))
    assert Submission.from_metadata({KEY: submitted.to_json()}) == submitted
    assert submitted.resumed(workers=2).pins == submitted.pins


@pytest.mark.parametrize(
    "kept",
    [
        "", "7", "null", "{}", '{"arguments": [1], "out": "/r", "config": null, "version": "1"}',
        '{"arguments": null, "out": "/r", "config": null, "version": "1"}',
        '{"arguments": [], "out": "/r", "config": 7, "version": "1"}',
        '{"arguments": [], "out": "/r", "config": null, "version": "1", "pins": null}',
        '{"arguments": [], "out": "/r", "config": null, "version": "1", "pins": [1]}',
    ],
)  # fmt: skip
def test_what_others_keep_is_none_of_ours(kept: str) -> None:
    assert Submission.from_metadata({KEY: kept}) is None
    assert Submission.from_metadata({}) is None


def test_passwords_are_not_shown() -> None:
    asked = submission([*TRAIN[:-2], f"--out={SECRET}"])
    assert asked.shown[-1] == "--out=s3://bucket/runs/digits"
    assert "secret" not in " ".join([*asked.shown, asked.name])
    assert asked.name == "digits"


def test_keys_in_the_query_of_a_uri_are_not_shown() -> None:
    out = "abfss://container@account.dfs.core.windows.net/run?client_secret=hush"
    asked = submission(["train", "/d", "--target", "kind", "--out", out])
    assert "hush" not in asked.hidden(f"Running entrypoint: {asked.command}")


# what a dashboard answers


class Answer(NamedTuple):
    """What is answered to every request."""

    status: int
    text: str


class Request(NamedTuple):
    """What is asked for."""

    path: str
    authorization: str | None
    body: bytes


Seen = list[Request]


@contextmanager
def dashboard(answer: Callable[[str], Answer | None]) -> Iterator[tuple[str, Seen]]:
    """The URL of what answers like a dashboard; None is silence."""
    seen: Seen = []
    over = Event()

    class Handler(Quiet):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen.append(Request(self.path, self.headers.get("Authorization"), body))
            given = answer(self.path)
            if given is None:
                over.wait()
                return
            self.send_response(given.status)
            self.send_header("Content-Length", str(len(given.text.encode())))
            self.end_headers()
            self.wfile.write(given.text.encode())

        do_POST = do_GET

    with served(Handler) as port:
        try:
            yield f"http://127.0.0.1:{port}", seen
        finally:
            over.set()


VERSION = Answer(200, json.dumps({"version": "4", "ray_version": version("ray")}))
TOKEN = "0123456789abcdef" * 4


def jobs(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """The exit status, standard output and standard error of a command."""
    status = run(["jobs", *arguments])
    return status, *capsys.readouterr()


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("RAY_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize("answer", [Answer(401, "no token"), Answer(403, "wrong token")])
def test_a_token_that_is_not_accepted(answer: Answer, capsys: pytest.CaptureFixture[str]) -> None:
    with dashboard(lambda path: answer) as (url, _):
        assert jobs(capsys, "list", "--address", url) == (
            1,
            "",
            f"error: the Ray cluster at {url} does not accept this token: give its own in "
            "RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token, with RAY_AUTH_MODE=token\n",
        )


def test_the_token_travels_in_a_header_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)  # the mode is not asked for
    with dashboard(lambda path: VERSION if "version" in path else Answer(200, "[]")) as (url, seen):
        status, stdout, stderr = jobs(capsys, "list", "--address", url)
    assert (status, stdout) == (0, "")
    assert stderr == f"there are no jobs on the cluster at {url}\n"
    assert {request.authorization for request in seen} == {f"Bearer {TOKEN}"}
    assert TOKEN not in "".join(request.path for request in seen)


def test_no_jobs_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    with dashboard(cluster_of()) as (url, _):
        assert jobs(capsys, "list", "--json", "--address", url) == (
            0,
            "[]\n",
            f"there are no jobs on the cluster at {url}\n",
        )


@pytest.mark.parametrize("text", ["<html>", "{}", "7"])
def test_what_answers_is_no_ray(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with dashboard(lambda path: Answer(200, text)) as (url, _):
        status, stdout, stderr = jobs(capsys, "list", "--address", url)
    assert (status, stdout) == (1, "")
    assert stderr.startswith(f"error: what answers at {url} is no dashboard of Ray: give ")
    assert stderr.count("\n") == 1


def test_a_silent_cluster_is_given_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.ray_jobs.ANSWER_SECONDS", 0.1)
    with dashboard(lambda path: None) as (url, _):
        status, stdout, stderr = jobs(capsys, "list", "--address", url)
    assert (status, stdout) == (1, "")
    assert stderr.startswith(f"error: the Ray cluster at {url} does not answer in time: give ")


def test_a_cluster_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    status, stdout, stderr = jobs(capsys, "list", "--address", "http://127.0.0.1:1")
    assert (status, stdout) == (1, "")
    assert stderr.startswith("error: the Ray cluster at http://127.0.0.1:1 does not answer: give ")
    assert stderr.count("\n") == 1


@pytest.mark.parametrize("failing", ["version", "jobs"])
def test_the_password_of_the_dashboard_is_not_shown(
    failing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(path: str) -> Answer:
        if failing not in path:
            return VERSION
        return Answer(500, f"{address}{path} is broken")

    with dashboard(answer) as (url, _):
        address = url.replace("://", "://user:sekret@")
        status, stdout, stderr = jobs(capsys, "list", "--address", address)
    assert (status, stdout) == (1, "")
    assert stderr.startswith(f"error: the Ray cluster at {url} ")
    assert "500" in stderr
    assert "sekret" not in stderr
    assert stderr.count("\n") == 1


def test_another_version_of_ray(capsys: pytest.CaptureFixture[str]) -> None:
    old = Answer(200, json.dumps({"version": "4", "ray_version": "2.9.0"}))
    with dashboard(lambda path: old) as (url, seen):
        status, stdout, stderr = jobs(capsys, "submit", "--address", url, "--", *TRAIN)
    assert (status, stdout) == (1, "")
    assert stderr.startswith(f"error: the cluster at {url} runs Ray 2.9.0, which ")
    assert {request.path for request in seen} == {"/api/version"}  # nothing was uploaded


def test_a_job_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with dashboard(lambda path: VERSION if "version" in path else Answer(404, "no")) as (url, _):
        for id in ("nobody", "../version"):
            assert jobs(capsys, "status", id, "--address", url) == (
                2,
                "",
                f"error: there is no job {id!r} on the cluster at {url}; `dist-dnn jobs list` "
                "shows them\n",
            )


def listed(**changes: Any) -> dict[str, Any]:
    """A job as a dashboard lists it."""
    asked = submission(TRAIN)
    return {
        "type": "SUBMISSION",
        "submission_id": "digits-00000000",
        "status": "RUNNING",
        "entrypoint": asked.command,
        "message": "Job is currently running.",
        "start_time": 1_700_000_000_000,
        "metadata": {KEY: asked.to_json()},
    } | changes


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    content = [
        listed(submission_id="late", start_time=1_700_000_100_000, status="FAILED",
               driver_exit_code=-9, end_time=1_700_003_761_000),
        listed(status="STOPPED", end_time=1_700_000_007_999),
        listed(type="DRIVER", submission_id=None, job_id="01000000"),
        listed(submission_id="other", metadata={}, start_time=1_700_000_050_000,
               end_time=1_700_000_050_000, status="SUCCEEDED", entrypoint=f"cat {SECRET}"),
    ]  # fmt: skip
    answer = Answer(200, json.dumps(content))
    with dashboard(lambda path: VERSION if "version" in path else answer) as (url, _):
        assert jobs(capsys, "list", "--address", url) == (
            0,
            "job              state      submitted             took     run\n"
            "digits-00000000  stopped    2023-11-14T22:13:20Z  0:00:07  s3://bucket/runs/digits\n"
            "other            succeeded  2023-11-14T22:14:10Z  0:00:00  -\n"
            "late             failed     2023-11-14T22:15:00Z  1:01:01  s3://bucket/runs/digits\n",
            "",
        )
        status, stdout, _ = jobs(capsys, "list", "--json", "--address", url)
    assert status == 0
    assert stdout.count("\n") == 1
    assert "secret" not in stdout
    assert [each["exit_status"] for each in json.loads(stdout)] == [143, 0, 137]


def cluster_of(*known: dict[str, Any]) -> Callable[[str], Answer]:
    """What the dashboard of a cluster with these jobs answers, which takes another one."""
    at_jobs = iter([known, {"submission_id": "new", "job_id": "new"}])  # listed, then submitted

    def answer(path: str) -> Answer:
        if "version" in path:
            return VERSION
        if "packages" in path:  # it has them all
            return Answer(200, "")
        if path == "/api/jobs/":
            return Answer(200, json.dumps(next(at_jobs)))
        [job] = [each for each in known if path == f"/api/jobs/{each['submission_id']}"]
        return Answer(200, json.dumps(job))

    return answer


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
@pytest.mark.parametrize(
    "command", [("resume", "one"), ("fetch", "one", "--to", "new"), ("submit", "--", *TRAIN)]
)
def test_a_run_has_one_job_at_a_time(
    command: tuple[str, ...],
    state: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    out = SECRET.replace("secret", "newer")
    again = submission([*TRAIN[:-1], out, "--resume=auto"])
    known = (
        listed(submission_id="one", status="STOPPED"),
        listed(submission_id="two", status=state, metadata={KEY: again.to_json()}),
        listed(submission_id="other", status=state, metadata={}),
    )
    with dashboard(cluster_of(*known)) as (url, seen):
        name, *others = command
        assert jobs(capsys, name, "--address", url, *others) == (
            2,
            "",
            f"error: job two is {state.lower()}, with the same run s3://bucket/runs/digits: wait "
            "until it has ended, or stop it by `dist-dnn jobs stop two`\n",
        )
    assert not [request for request in seen if request.body]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:ssl=None is deprecated")  # it is Ray that says so
def test_a_log_that_is_cut_off_is_no_end_of_the_job(capsys: pytest.CaptureFixture[str]) -> None:
    states = iter(["RUNNING", "RUNNING", "SUCCEEDED"])

    def answer(path: str) -> Answer:
        if "version" in path:
            return VERSION
        if path.endswith("/tail"):
            return Answer(502, "a proxy's opinion")
        return Answer(200, json.dumps(listed(status=next(states))))

    with dashboard(answer) as (url, _):
        assert jobs(capsys, "logs", "digits-00000000", "--follow", "--address", url) == (
            0,
            "",
            "warning: the log of job digits-00000000 is cut off here; waiting until it has ended\n",
        )


@pytest.mark.parametrize("changes", [{}, {"metadata": {}}])
def test_passwords_in_two_pieces_of_a_log_are_not_shown(
    changes: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []

    def follow(self: Jobs, id: str, write: Callable[[str], object]) -> Job:
        for piece in ("begun\nto s3://key:sec", "ret@bucket/runs", "\nfrom s3://key:", "secret@b"):
            write(piece)
            shown.append(capsys.readouterr().out)
        return self.get(id)

    monkeypatch.setattr(Jobs, "follow", follow)
    known = listed(status="SUCCEEDED", **changes)
    with dashboard(cluster_of(known)) as (url, _):
        status, rest, _ = jobs(capsys, "logs", "digits-00000000", "--follow", "--address", url)
    assert status == 0
    assert [*shown, rest] == ["begun\n", "", "to s3://bucket/runs\n", "", "from s3://b"]


def test_a_signal_that_comes_inside_of_the_client_is_not_lost() -> None:
    async def tail(id: str) -> AsyncIterator[str]:
        with suppress(BaseException):  # as libraries do
            signal.raise_signal(signal.SIGINT)
        yield "a line"
        await asyncio.sleep(3600)

    followed = Jobs.__new__(Jobs)
    followed._client = SimpleNamespace(tail_job_logs=tail)
    said: list[str] = []
    with stopping.handled(), pytest.raises(stopping.Stopped):
        followed.follow("digits-00000000", said.append)
    assert said == ["a line"]


@pytest.mark.parametrize("kept", [["numpy==2.0.0", "pyarrow==17.0.0"], None])
def test_a_resumed_job_has_the_versions_of_the_one_before(
    kept: list[str] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of this machine where none are known."""
    begun = json.loads(submission(TRAIN).to_json())
    begun |= {"version": "0.1", "pins": kept}
    if kept is None:
        del begun["pins"]
    known = listed(submission_id="one", status="STOPPED", metadata={KEY: json.dumps(begun)})
    with dashboard(cluster_of(known)) as (url, seen):
        status, stdout, stderr = jobs(capsys, "resume", "one", "--address", url)
    assert (status, stderr) == (0, "")
    [asked] = [json.loads(request.body) for request in seen if request.body]
    assert asked["submission_id"] == stdout.strip()
    *pins, wheel = asked["runtime_env"]["pip"]["packages"]
    assert pins == (kept or pinned_dependencies())
    assert f"/dist_dnn-{__version__}" in wheel
    resumed = Submission.from_metadata(asked["metadata"])
    assert resumed is not None
    assert (list(resumed.pins), resumed.version) == (pins, __version__)


UNKNOWN = r"; job (digits-[0-9a-f]{8}) may have been submitted: `dist-dnn jobs status \1` tells"


def test_the_name_of_a_job_that_may_have_been_submitted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def submit(self: Jobs, id: str, *others: object) -> None:
        raise failure

    monkeypatch.setattr(Jobs, "submit", submit)
    failure: BaseException = RunError("no answer")
    with dashboard(cluster_of()) as (url, _):
        status, stdout, stderr = jobs(capsys, "submit", "--address", url, "--", *TRAIN)
    assert (status, stdout) == (1, "")
    assert re.fullmatch(f"error: no answer{UNKNOWN}\n", stderr)
    failure = stopping.Stopped(signal.SIGINT)
    with dashboard(cluster_of()) as (url, _), pytest.raises(stopping.Stopped) as stopped:
        jobs(capsys, "submit", "--address", url, "--", *TRAIN)
    assert re.fullmatch(UNKNOWN, f"; {stopped.value.__notes__[0]}")


def test_the_name_of_a_job_where_nobody_reads_standard_output() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with dashboard(cluster_of()) as (url, _):
        done = subprocess.run(
            [sys.executable, "-m", "dist_dnn", "jobs", "submit", "--address", url, "--", *TRAIN],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
        )
    os.close(writing)
    assert done.returncode == 1
    assert re.fullmatch(rf"error: .*Broken pipe{UNKNOWN}\n", done.stderr)


# fetching


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    train(str(DIGITS), "digit", Hyperparameters(hidden=(8,), epochs=1), workers=0, out=out)
    return out


KNOWN = {"state", "epoch", "step", "started", "updated", "error", "digest", "problem"}


@pytest.mark.parametrize(
    ("out", "problem"),
    [
        (None, "the job was not submitted by `dist-dnn jobs`"),
        ("/nowhere", "its files are not there, or not seen from this machine"),
        ("nothing://key:secret@there", "nothing://there"),
        ("broken", "there is no metrics.jsonl"),
        ("trained", None),
    ],
)
def test_the_progress_of_a_job(
    out: str | None,
    problem: str | None,
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It has the same keys, whatever is known."""
    shutil.copytree(trained, tmp_path / "broken")
    (tmp_path / "broken" / "metrics.jsonl").unlink()
    places = {"trained": str(trained), "broken": str(tmp_path / "broken")}
    metadata = {}
    if out is not None:
        metadata = {KEY: replace(submission(TRAIN), out=places.get(out, out)).to_json()}
    with dashboard(cluster_of(listed(metadata=metadata))) as (url, _):
        command = ("status", "digits-00000000", "--address", url)
        status, stdout, stderr = jobs(capsys, *command, "--json")
        assert (status, stderr) == (0, "")
        shown = jobs(capsys, *command)[1]
    assert "secret" not in stdout + shown
    progress = json.loads(stdout)["progress"]
    assert progress.keys() == KNOWN
    if problem is None:
        assert (progress["state"], progress["epoch"], progress["problem"]) == ("completed", 1, None)
        assert progress["digest"] == Model.load(str(trained)).digest
        assert re.search("^run's state +completed$", shown, re.M)
    else:
        assert problem in progress["problem"]
        assert {progress[name] for name in KNOWN - {"problem"}} == {None}
        assert "run's problem" in shown


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_folder_is_fetched_whole(trained: Path, tmp_path: Path) -> None:
    to = tmp_path / "new" / "run"
    copy_run(open_folder(trained.as_uri()), LocalFolder(to))
    assert content(to) == content(trained)
    with pytest.raises(InputError, match="exists"):
        copy_run(open_folder(trained), LocalFolder(to))


def test_a_run_is_fetched_from_a_store_or_not_at_all(tmp_path: Path) -> None:
    with s3_server() as server:
        bucket = Bucket(server.get_host_and_port()[1])
        experiment = Hyperparameters(hidden=(8,), epochs=1)
        run = train(str(DIGITS), "digit", experiment, workers=0, out=bucket.uri)
        to = tmp_path / "run"
        copy_run(open_folder(bucket.uri), LocalFolder(to))
        assert Model.load(str(to)).digest == run.digest
        assert content(to) == content(bucket.run_in(tmp_path / "whole"))

        bucket.write("metrics.jsonl", b"another one")
        with pytest.raises(InputError, match=r"metrics\.jsonl: .*try again"):
            copy_run(open_folder(bucket.uri), LocalFolder(tmp_path / "torn"))
        manifest = json.loads(bucket.read(f"{bucket.path}/manifest.json"))
        manifest["files"]["../../outside"] = manifest["files"]["status.json"]
        bucket.write("manifest.json", json.dumps(manifest).encode())
        with pytest.raises(InputError, match="no run's"):
            copy_run(open_folder(bucket.uri), LocalFolder(tmp_path / "torn"))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "whole"]


def test_no_run_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no run in"):
        copy_run(open_folder(tmp_path / "nothing"), LocalFolder(tmp_path / "new"))
    assert not (tmp_path / "new").exists()
