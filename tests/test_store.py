"""A run in an object store is the run that it would be in a folder."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from runs import DIGITS, ROOT, After, what_is_left
from stores import Bucket, refusing, s3_server, uri_at

from dist_dnn import InputError, RunError, stopping, train
from dist_dnn.data.store import StoreFolder
from dist_dnn.front.cli import run as command
from dist_dnn.model import Model
from dist_dnn.stopping import Stopped

GIVEN: dict[str, Any] = {"epochs": 2, "hidden": [16], "batch_size": 300, "validation": 0.2}
FLAGS = ("--epochs", "2", "--hidden", "16", "--batch-size", "300", "--validation", "0.2")
STEPS = 10


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with s3_server() as server:
        yield server.get_host_and_port()[1]


@pytest.fixture
def bucket(port: int) -> Bucket:
    return Bucket(port)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an undisturbed run in a folder leaves."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    train(DIGITS, "digit", GIVEN, workers=0, out=out)
    return what_is_left(out)


def begin(bucket: Bucket, **settings: Any) -> Any:
    return train(DIGITS, "digit", GIVEN, **{"workers": 0, "out": bucket.uri} | settings)


def go_on(bucket: Bucket, **settings: Any) -> Any:
    return train(DIGITS, **{"workers": 0, "out": bucket.uri, "resume": True} | settings)


def said_by(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """The exit status, standard output and standard error of a command in this process."""
    capfd.readouterr()
    status = command(arguments)
    return status, *capfd.readouterr()


# Undisturbed


def test_the_commands(
    bucket: Bucket, expected: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out, local, data = bucket.uri, str(tmp_path / "run"), str(DIGITS)
    train = ["train", data, "--target", "digit", "--out", out, *FLAGS, "--workers", "1"]
    # A process of its own also shows what there is to say when it ends.
    said = subprocess.run(
        [sys.executable, "-m", "dist_dnn", *train],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stderr.splitlines()
    assert all(line.startswith("epoch ") for line in said[:-2])
    assert said[-2:] == [
        f"digest {expected['digest']}",
        f"model in {bucket.shown}; next: dist-dnn evaluate {bucket.shown} DATA",
    ]
    assert what_is_left(bucket.run_in(tmp_path / "run")) == expected
    assert said_by(["digest", out], capfd) == (0, f"{expected['digest']}\n", "")
    scores = [said_by(["evaluate", run, data], capfd) for run in (out, local)]
    assert scores[0] == scores[1]
    predictions = []
    for number, run in enumerate((out, local)):
        file = str(tmp_path / f"{number}.parquet")
        assert said_by(["predict", run, data, "--out", file], capfd) == (0, "", "")
        predictions.append(parquet.read_table(file))
    assert predictions[0].equals(predictions[1])


def test_a_uri_of_this_machine_s_files_is_a_folder(tmp_path: Path) -> None:
    run = train(DIGITS, "digit", {"epochs": 0}, workers=0, out=(tmp_path / "run").as_uri())
    assert run.out == tmp_path / "run"
    assert "manifest.json" not in os.listdir(tmp_path / "run")


def test_only_so_many_checkpoints_stay(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete, put = StoreFolder._delete, StoreFolder._put

    def delete_what_is_not_named(self: StoreFolder, file: str) -> None:
        assert file not in json.loads(bucket.files()["manifest.json"])["files"]
        delete(self, file)

    def put_what_others_need_before(self: StoreFolder, file: str, pieces: Any) -> None:
        if file == "manifest.json":
            assert bucket.files().keys() >= json.loads(pieces[0])["files"].keys()
        put(self, file, pieces)

    monkeypatch.setattr(StoreFolder, "_delete", delete_what_is_not_named)
    monkeypatch.setattr(StoreFolder, "_put", put_what_others_need_before)
    run = begin(bucket, checkpoint_every=3, keep=2)
    assert run.out == bucket.uri
    assert run.digest == Model.load(run.out).digest
    out = bucket.run_in(tmp_path / "run")
    best = min(what_is_left(out)["metrics"], key=lambda each: each["validation_loss"])["step"]
    steps = {int(name[5:15]) for name in os.listdir(out / "checkpoints")}
    assert steps == {best, STEPS - 1, STEPS}


# Ended and gone on with

KILLED = """
import os, signal, sys
from dist_dnn import train
from dist_dnn.data.store import StoreFolder

put, left = StoreFolder._put, int(sys.argv[1])

def put_some(*given):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    put(*given)

StoreFolder._put = put_some
data, out, given = sys.argv[2], sys.argv[3], {given}
train(data, "digit", given, workers=0, out=out, resume="auto", checkpoint_every=2, keep=1)
"""


def killed(bucket: Bucket, puts: int) -> bool:
    """Begin or go on with a run that is killed before it writes one object more; or it ends."""
    code = KILLED.replace("{given}", repr(GIVEN))
    done = subprocess.run(
        [sys.executable, "-c", code, str(puts), str(DIGITS), bucket.uri],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


@pytest.mark.parametrize(
    "puts",
    [
        [10, 12],
        pytest.param(range(40), marks=pytest.mark.slow),
        pytest.param(range(25, 8, -1), marks=pytest.mark.slow),
    ],
)
def test_a_run_that_was_killed_between_any_two_objects(
    puts: list[int], bucket: Bucket, expected: dict[str, Any], tmp_path: Path
) -> None:
    for count in puts:
        if not killed(bucket, count):
            break
    begin(bucket, resume="auto", keep=1)
    assert what_is_left(bucket.run_in(tmp_path / "run")) == expected


def test_a_start_that_was_killed_is_no_run(
    bucket: Bucket, expected: dict[str, Any], tmp_path: Path
) -> None:
    assert killed(bucket, 7)
    assert "manifest.json" not in bucket.files()
    assert "checkpoints/step-0000000000.safetensors" in bucket.files()
    with pytest.raises(InputError, match=f"there is no run {bucket.shown} to resume"):
        go_on(bucket)
    with pytest.raises(InputError, match=f"{bucket.shown} is no run directory"):
        Model.load(bucket.uri)
    begin(bucket)
    assert what_is_left(bucket.run_in(tmp_path / "run")) == expected


def test_signals(bucket: Bucket, expected: dict[str, Any], tmp_path: Path, after: After) -> None:
    for resume in (False, True, "auto"):
        after(3)
        with pytest.raises(Stopped) as caught:
            begin(bucket, resume=resume)
        [note] = caught.value.__notes__
        assert note.endswith(f"`dist-dnn train DATA --out {bucket.shown} --resume`")
    assert json.loads(bucket.files()["status.json"])["state"] == "stopped"
    after(0)
    go_on(bucket, workers=2)
    assert what_is_left(bucket.run_in(tmp_path / "run")) == expected
    before = bucket.files()
    assert begin(bucket, resume="auto").digest == expected["digest"]
    assert bucket.files() == before


def test_a_second_signal(
    bucket: Bucket,
    expected: dict[str, Any],
    tmp_path: Path,
    after: After,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put, is_over = StoreFolder._put, threading.Event()

    def put_slowly(self: StoreFolder, file: str, pieces: Any) -> None:
        if file == "checkpoints/step-0000000004.safetensors" and not is_over.is_set():
            os.kill(os.getpid(), signal.SIGINT)
            is_over.wait()
        put(self, file, pieces)

    after(4)
    with monkeypatch.context() as patch:
        patch.setattr(StoreFolder, "_put", put_slowly)
        with pytest.raises(Stopped) as caught:
            begin(bucket)
    assert caught.value.at_once
    assert json.loads(bucket.files()["status.json"])["state"] == "stopped"
    is_over.set()
    after(0)
    go_on(bucket)
    assert what_is_left(bucket.run_in(tmp_path / "run")) == expected


class Interrupting:
    """A file system, or a stream to one, where a signal comes after what is written first."""

    def __init__(self, wrapped: Any, pieces: list[bytes]) -> None:
        self.wrapped = wrapped
        self.pieces = pieces

    def open_output_stream(self, path: str) -> "Interrupting":
        return Interrupting(self.wrapped.open_output_stream(path), self.pieces)

    def write(self, piece: bytes) -> None:
        self.wrapped.write(piece)
        self.pieces.append(piece)
        if len(self.pieces) == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    def __enter__(self) -> "Interrupting":
        return self

    def __exit__(self, *given: Any) -> None:
        self.wrapped.close()


def test_a_signal_leaves_no_object_half_written(bucket: Bucket) -> None:
    filesystem = Interrupting(bucket.filesystem, [])
    folder = StoreFolder(filesystem, bucket.path, bucket.uri)
    with stopping.handled(), pytest.raises(Stopped):
        folder._put("x", [b"one", b"two"])
    assert bucket.files() == {"x": b"onetwo"}


def test_a_store_that_is_gone_ends_the_run_within_a_step(
    expected: dict[str, Any], port: int, tmp_path: Path, after: After
) -> None:
    with s3_server() as server:
        bucket = Bucket(server.get_host_and_port()[1])
        after(5, server.stop)
        with pytest.raises(RunError, match=r"some/run/\S+ cannot be written: .*connect") as caught:
            begin(bucket, checkpoint_every=1)
    assert "--resume" in caught.value.__notes__[0]
    after(0)
    again = Bucket(port, bucket.name)
    go_on(again)
    assert what_is_left(again.run_in(tmp_path / "run")) == expected


# Damage


@pytest.fixture
def stopped(bucket: Bucket, after: After) -> Bucket:
    """A run with checkpoints of steps 4, 5 and 6."""
    after(6)
    with pytest.raises(Stopped):
        begin(bucket, checkpoint_every=1)
    after(0)
    return bucket


NEWEST = "checkpoints/step-0000000006.safetensors"


@pytest.mark.parametrize("damage", [None, b"no checkpoint"])
def test_a_checkpoint_that_is_damaged_or_missing_is_passed_over(
    damage: bytes | None,
    stopped: Bucket,
    expected: dict[str, Any],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if damage is None:
        stopped.remove(NEWEST)
    else:
        stopped.write(NEWEST, damage)
    go_on(stopped)
    why = "it is not there" if damage is None else "it is truncated"
    assert f"{stopped.shown}/{NEWEST} is passed over: {why}" in capfd.readouterr().err
    assert what_is_left(stopped.run_in(tmp_path / "run")) == expected


def test_what_the_manifest_does_not_name_is_no_checkpoint(
    stopped: Bucket, expected: dict[str, Any], tmp_path: Path
) -> None:
    stopped.write("checkpoints/step-0000000099.safetensors", stopped.files()[NEWEST])
    go_on(stopped)
    assert what_is_left(stopped.run_in(tmp_path / "run")) == expected


def test_a_model_that_is_not_what_the_manifest_says(
    stopped: Bucket, capfd: pytest.CaptureFixture[str]
) -> None:
    model = bytearray(stopped.files()["model.safetensors"])
    model[-1] ^= 1
    stopped.write("model.safetensors", bytes(model))
    status, out, said = said_by(["digest", stopped.uri], capfd)
    assert (status, out, said.count("\n")) == (2, "", 1)
    assert "it is not the file that manifest.json names" in said
    stopped.remove("model.safetensors")
    status, out, said = said_by(["digest", stopped.uri], capfd)
    assert (status, out, said.count("\n")) == (2, "", 1)
    assert "it is not there, though manifest.json names it" in said


@pytest.mark.parametrize("manifest", [b"", b"{", b"[]", b'{"format": 2}', b'{"format": 1}'])
def test_a_manifest_that_is_none(
    manifest: bytes, bucket: Bucket, capfd: pytest.CaptureFixture[str]
) -> None:
    bucket.write("manifest.json", manifest)
    train = ["train", str(DIGITS), "--target", "digit", "--out", bucket.uri]
    for arguments in (train, [*train, "--resume=auto"], ["digest", bucket.uri]):
        status, out, said = said_by(arguments, capfd)
        assert (status, out, said.count("\n")) == (2, "", 1)
        assert f"{bucket.shown}/manifest.json is no manifest of dist_dnn" in said


# Mistakes

MISTAKES: dict[str, tuple[Callable[[int], str], str]] = {
    "no bucket": (lambda port: uri_at(port, "nowhere/run"), "s3://nowhere/run .* no bucket"),
    "no path": (lambda port: "s3://", "give the bucket and the path"),
    "no such scheme": (
        lambda port: "nonsense://key:secret@bucket/run?secret=secret",
        "nonsense://bucket/run cannot be opened: Unrecognized filesystem type",
    ),
    "no URI": (lambda port: "s3://key:secret@bucket/a b?x=secret", "s3://bucket/a b cannot be"),
    "a slash in the secret": (
        lambda port: uri_at(port, "bucket/run").replace("secret", "sec/secret"),
        "s3://bucket/run cannot be opened: Cannot parse",
    ),
    "no such option": (
        lambda port: f"{uri_at(port, 'bucket/run')}&speed=3",
        "s3://bucket/run cannot be opened: Unexpected query parameter",
    ),
    "no Hadoop": (lambda port: "hdfs://nowhere/run", "hdfs://nowhere/run cannot be opened"),
    "nobody there": (
        lambda port: uri_at(9, "bucket/run"),
        "s3://bucket/run/manifest.json cannot be read: .*connect.*check the URI",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line(mistake: str, port: int, capfd: pytest.CaptureFixture[str]) -> None:
    make, said = MISTAKES[mistake]
    train = ["train", str(DIGITS), "--target", "digit", "--out", make(port), "--workers", "0"]
    check_mistake(train, said, capfd)


def check_mistake(arguments: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    status, out, line = said_by(arguments, capfd)
    assert (status, out) == (2, "")
    assert re.fullmatch(f"error: .*{said}.*\n", line), line
    assert "secret" not in line


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        (("HEAD", "GET"), "cannot be read: .*ACCESS_DENIED.*check the URI"),
        (("PUT", "POST"), "some/run cannot be made: .*ACCESS_DENIED.*choose another --out"),
    ],
)
def test_what_is_forbidden(
    methods: tuple[str, ...], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with refusing(methods) as port:
        out = uri_at(port, "bucket/some/run")
        train = ["train", str(DIGITS), "--target", "digit", "--out", out, "--workers", "0"]
        check_mistake(train, said, capfd)


def test_a_mistake_leaves_nothing_and_a_run_as_it_is(
    bucket: Bucket, capfd: pytest.CaptureFixture[str]
) -> None:
    train = ["train", str(DIGITS), "--out", bucket.uri, "--workers", "0", "--epochs", "0"]
    check_mistake([*train, "--target", "nothing"], "nothing", capfd)
    check_mistake([*train, "--resume"], f"there is no run {bucket.shown} to resume", capfd)
    check_mistake(["digest", bucket.uri], f"{bucket.shown} is no run directory", capfd)
    assert bucket.files() == {}
    assert command([*train, "--target", "digit"]) == 0
    before = bucket.files()
    check_mistake([*train, "--target", "digit"], f"{bucket.shown} exists", capfd)
    assert bucket.files() == before


@pytest.mark.slow
def test_a_store_that_does_not_answer_is_given_up(capfd: pytest.CaptureFixture[str]) -> None:
    """By the limits that we set: without them it takes minutes, and the test its time limit."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = uri_at(silent.getsockname()[1], "bucket/run")
        check_mistake(["digest", uri], "s3://bucket/run/manifest.json cannot be read", capfd)
    uri = "gs://anonymous@bucket/run?endpoint_override=127.0.0.1:9&scheme=http"
    check_mistake(["digest", uri], "gs://bucket/run/manifest.json cannot be read", capfd)
