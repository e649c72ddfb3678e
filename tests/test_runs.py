"""Runs on disks and in stores: the table, what two differ in, and how they stand."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow.fs import FileSelector
from runs import DIGITS, ROOT, After, wait_until
from stores import Bucket, s3_server

from dist_dnn import train
from dist_dnn.finding import DEPTH, find_runs
from dist_dnn.front.choosing import KEYS, Condition, Order
from dist_dnn.front.cli import run
from dist_dnn.front.progress import describe
from dist_dnn.front.runs import age_text
from dist_dnn.front.tables import width_of
from dist_dnn.front.watch import Watch
from dist_dnn.liveness import own_process
from dist_dnn.looking import Look, is_silent, look_at
from dist_dnn.reporting import Progress
from dist_dnn.run_states import BROKEN, DEAD, RUNNING, SILENT, STATES
from dist_dnn.storage import LocalFolder

SMALL: dict[str, Any] = {"hidden": [8], "epochs": 2, "batch_size": 300}
NEEDS_PROC = pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")


def said_by(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """The exit status, standard output and standard error of a command in this process."""
    capfd.readouterr()
    status = run([str(each) for each in arguments])
    return status, *capfd.readouterr()


def start(out: object, *flags: object) -> "subprocess.Popen[str]":
    """A training in another process that does not end by itself."""
    flags = ("--epochs", 10**6, "--hidden", 8, "--workers", 0, "--progress", "none", *flags)
    command = ["train", DIGITS, "--target", "digit", "--out", out, *flags]
    arguments = [sys.executable, "-m", "dist_dnn", *map(str, command)]
    return subprocess.Popen(arguments, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def status_of(out: Path, **changes: Any) -> dict[str, Any]:
    """What status.json says, after these changes of it."""
    status = json.loads((out / "status.json").read_text()) | changes
    (out / "status.json").write_text(json.dumps(status))
    return status


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three runs, one of them deeper, and other things."""
    above = tmp_path_factory.mktemp("example")
    for name, chosen in {
        "a": {"validation": 0.2},
        "deep/er/b": {"learning_rate": 0.01},
        "c": {"learning_rate": 0.1, "hidden": [], "epochs": 1, "validation": 0.2},
    }.items():
        train(DIGITS, "digit", SMALL | chosen, workers=0, out=above / name)
    (above / "notes").mkdir()
    (above / "notes" / "x.txt").write_text("mine")
    copytree(above / "a", above / ".hidden")
    return above


@pytest.fixture
def folder(example: Path, tmp_path: Path) -> Path:
    """A copy of it that may be changed."""
    copytree(example, tmp_path / "runs")
    return tmp_path / "runs"


# The table


def test_the_table(example: Path, capfd: pytest.CaptureFixture[str]) -> None:
    status, stdout, stderr = said_by(capfd, "runs", example)
    assert (status, stderr) == (0, "")
    heading, *lines = stdout.splitlines()
    assert heading.split() == [
        *("run", "state", "epoch", "train", "valid", "accuracy", "examples/s", "digest", "age")
    ]
    assert [line.split()[:3] for line in lines] == [
        ["a", "completed", "2/2"],
        ["c", "completed", "1/1"],
        ["deep/er/b", "completed", "2/2"],
    ]
    assert len({len(line) for line in [heading, *lines]}) == 1
    assert all(len(line.split()) == 9 for line in lines)
    metrics = json.loads((example / "a" / "metrics.jsonl").read_text().splitlines()[-1])
    cells = lines[0].split()
    assert cells[3] == f"{metrics['train_loss']:.4f}"
    assert cells[5] == f"{metrics['validation_accuracy']:.4f}"
    assert cells[7] == metrics["digest"][:8]
    assert lines[2].split()[4:6] == ["-", "-"]


def test_a_row_is_of_one_epoch(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """That of the last line of the metrics, which the status may be ahead of."""
    first = (folder / "a" / "metrics.jsonl").read_text().splitlines(keepends=True)[0]
    for lines, epoch in ((first, 1), ("", 2)):
        (folder / "a" / "metrics.jsonl").write_text(lines)
        [found] = json.loads(said_by(capfd, "runs", folder / "a", "--json")[1])
        assert (found["epoch"], found["step"]) == (epoch, status_of(folder / "a")["step"])
        assert found["digest"] == (json.loads(first)["digest"] if lines else None)


def test_json_has_all_keys_with_full_values(
    example: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    status, stdout, stderr = said_by(capfd, "runs", example, "--json")
    assert (status, stderr, stdout.count("\n")) == (0, "", 1)
    records = json.loads(stdout)
    assert all(list(record) == list(KEYS) for record in records)
    assert records[0]["digest"] == train_digest(example / "a")
    assert records[1]["hyperparameters"]["hidden"] == []
    assert records[2]["validation_loss"] is None
    assert records[2]["location"] == str(example / "deep" / "er" / "b")


def train_digest(out: Path) -> str:
    digest: str = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])["digest"]
    return digest


def test_a_run_itself_is_a_table_of_one(example: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for shown in (example / "c", f"{example}/c/"):
        stdout = said_by(capfd, "runs", shown)[1]
        assert [line.split()[0] for line in stdout.splitlines()] == ["run", "c"]


def test_what_lies_too_deep_is_said_to_be_left_out(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for above in ("1/2/3", "1/2/3/4"):
        (folder / above).mkdir(parents=True, exist_ok=True)
        copytree(folder / "a", folder / above / "run")
    for name in ("other", "run/more"):
        (folder / "1/2/3/4" / name).mkdir()
    status, stdout, stderr = said_by(capfd, "runs", folder)
    assert (status, stdout.splitlines()[1].split()[0]) == (0, "1/2/3/run")
    assert len(stdout.splitlines()) == 5
    assert stderr == (
        f"warning: folders more than {DEPTH} deep in {folder} were left out, such as "
        f"1/2/3/4/other\n"
    )
    with pytest.raises(SystemExit):
        run(["runs", "--help"])
    assert f"up to {DEPTH} folders deep" in " ".join(capfd.readouterr().out.split())


def test_links_in_a_folder_are_not_followed(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for link, target in (("x", "x"), ("latest", "a"), ("loop", "."), ("gone", "nowhere")):
        (folder / link).symlink_to(target)
    (tmp_path / "link").symlink_to(folder)
    for shown in (folder, tmp_path / "link"):
        status, stdout, stderr = said_by(capfd, "runs", shown)
        assert (status, stderr) == (0, "")
        assert [line.split()[0] for line in stdout.splitlines()[1:]] == ["a", "c", "deep/er/b"]
    (tmp_path / "one").symlink_to(folder / "a")
    assert said_by(capfd, "runs", tmp_path / "one")[1].splitlines()[1].split()[0] == "one"


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (["--sort", "-accuracy"], "a c deep/er/b"),
        (["--sort", "-learning_rate"], "c deep/er/b a"),
        (["--sort", "epochs"], "c a deep/er/b"),
        (["--sort=-name"], "deep/er/b c a"),
        (["--sort", "-hidden"], "c a deep/er/b"),
        (["--where", "learning_rate=1e-2"], "deep/er/b"),
        (["--where", "hidden=none"], "c"),
        (["--where", "hidden!=none", "--where", "validation=0.2"], "a"),
        (["--where", "accuracy>0"], "a c"),
        (["--where", "validation=none"], "deep/er/b"),
        (["--state", "completed,dead", "--where", "epochs<2"], "c"),
    ],
)
def test_sorted_and_filtered(
    flags: list[str], names: str, example: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if flags == ["--sort", "-accuracy"]:
        accuracies = {
            found.name: found.look.epochs[-1].get("validation_accuracy", -1)
            for found in find_runs(str(example))
        }
        names = " ".join(sorted(accuracies, key=lambda name: -accuracies[name]))
    status, stdout, _ = said_by(capfd, "runs", example, *flags)
    assert (status, [line.split()[0] for line in stdout.splitlines()[1:]]) == (0, names.split())


def test_no_runs(example: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said = f"there are no runs in {tmp_path}\n"
    assert said_by(capfd, "runs", tmp_path) == (0, "", said)
    assert said_by(capfd, "runs", tmp_path, "--json") == (0, "[]\n", said)
    said = f"none of the 3 runs in {example} is like that\n"
    assert said_by(capfd, "runs", example, "--state", "dead") == (0, "", said)


def test_what_the_table_shows_of_a_digest_finds_its_run(
    example: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    digest = train_digest(example / "c")
    for value, names in ((digest, ["c"]), (digest[:8], ["c"]), (digest[:7], [])):
        stdout = said_by(capfd, "runs", example, "--where", f"digest={value}")[1]
        assert [line.split()[0] for line in stdout.splitlines()[1:]] == names
        stdout = said_by(capfd, "runs", example, "--where", f"digest!={value}")[1]
        assert len(stdout.splitlines()[1:]) == 3 - len(names)


def test_columns_are_aligned_whatever_the_names(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "a").rename(folder / "漢字")
    (folder / "c").rename(folder / "e\u0301")
    lines = said_by(capfd, "runs", folder)[1].splitlines()
    starts = {len(line.partition("completed")[0]) for line in lines[1:]}
    assert [width_of(each) for each in ("漢字", "e\u0301", "x")] == [4, 1, 1]
    assert starts == {11, 11 - 2, 11 + 1}


@pytest.mark.parametrize("value", [0, 59, 60, 3599, 3600, 86399, 86400, 10**7])
def test_ages_are_short(value: float) -> None:
    assert re.fullmatch(r"\d{1,3}[smhd]", age_text(value))


# Broken runs

FLAWS: dict[str, tuple[str, str | bytes | None, str]] = {
    "no status": ("status.json", None, "there is no status.json"),
    "cut off": ("status.json", '{"state": "run', "status.json is no JSON, or cut off"),
    "a list": ("status.json", "[]", "status.json holds something else than objects"),
    "no state": ("status.json", "{}", "status.json says that its state is None"),
    "another state": (
        "status.json",
        '{"state": "\\u001b[2J"}',
        "status.json says that its state is '\\x1b[2J'",
    ),
    "deep": ("status.json", "[" * 99_999, "status.json is no JSON, or cut off"),
    "no text": ("status.json", b"\xff\xfe", "status.json is no text in UTF-8"),
    "no metrics": ("metrics.jsonl", None, "there is no metrics.jsonl"),
    "NaN": ("metrics.jsonl", '{"epoch": NaN}\n', "metrics.jsonl is no JSON, or cut off"),
    "a loss in words": (
        "metrics.jsonl",
        '{"epoch": 1, "step": 1, "train_loss": "low"}\n',
        "metrics.jsonl says that train_loss is 'low'",
    ),
    "too long a loss": (
        "metrics.jsonl",
        f'{{"epoch": 1, "step": 1, "train_loss": {"1" * 401}}}\n',
        "metrics.jsonl says that train_loss is 1111",
    ),
    "too great a loss": (
        "metrics.jsonl",
        '{"epoch": 1, "step": 1, "train_loss": 1e999}\n',
        "metrics.jsonl is no JSON, or cut off",
    ),
    "an epoch below 0": (
        "status.json",
        '{"state": "running", "epoch": -3, "step": 0}',
        "status.json says that its epoch is -3",
    ),
    "no TOML": ("hyperparameters.toml", "= 3", "hyperparameters.toml: is no valid TOML"),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_broken_run_is_shown_with_what_is_wrong(
    flaw: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file, content, why = FLAWS[flaw]
    if content is None:
        (folder / "c" / file).unlink()
    else:
        (folder / "c" / file).write_bytes(
            content if isinstance(content, bytes) else content.encode()
        )
    status, stdout, stderr = said_by(capfd, "runs", folder)
    assert status == 0
    assert [line.split()[:2] for line in stdout.splitlines()[1:]] == [
        ["a", "completed"],
        ["c", "broken"],
        ["deep/er/b", "completed"],
    ]
    assert stderr.startswith(f"c: broken: {why}")
    assert stderr.count("\n") == 1
    assert stderr[:-1].isprintable()
    [record] = json.loads(said_by(capfd, "runs", folder / "c", "--json")[1])
    assert record["state"] == BROKEN


def test_a_run_of_another_version_is_shown(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with (folder / "c" / "hyperparameters.toml").open("a") as file:
        file.write('"later\\n" = [1, inf]\nsince = 2020-01-01\n')
    status, stdout, stderr = said_by(capfd, "runs", folder)
    assert (status, stderr) == (0, "")
    assert [line.split()[1] for line in stdout.splitlines()[1:]] == ["completed"] * 3
    [found] = json.loads(said_by(capfd, "runs", folder / "c", "--json")[1])
    assert found["hyperparameters"]["later\n"] == [1, "inf"]
    assert found["hyperparameters"]["since"] == "2020-01-01"
    assert found["hyperparameters"]["hidden"] == []
    stdout = said_by(capfd, "runs", "diff", folder / "a", folder / "c")[1]
    assert ["'later\\n'", "none", "1,inf"] in [line.split() for line in stdout.splitlines()]
    assert said_by(capfd, "watch", folder / "c")[0] == 0


def test_a_line_that_is_being_written_is_left_out(folder: Path) -> None:
    with (folder / "c" / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "st')
    look = look_at(LocalFolder(folder / "c"))
    assert (look.state, len(look.epochs)) == ("completed", 1)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_whatever_the_files_hold_there_is_a_table(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """JSON of any kind in the place of what a run writes is shown, or said to be broken."""
    out = tmp_path_factory.mktemp("any") / "run"
    out.mkdir()
    plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    value = st.recursive(plain, lambda inner: st.lists(inner, max_size=2), max_leaves=3)
    state = st.sampled_from(["running", "completed"]) | value
    number = st.integers(0, 9) | value
    status = data.draw(
        st.fixed_dictionaries(
            {"state": state, "epoch": number, "step": number},
            optional={
                "process": st.dictionaries(st.sampled_from(["pid", "host", "boot"]), value) | value,
                "updated": st.just("2026-01-01T00:00:00+00:00") | value,
                "checkpoint_every": st.just("60s") | value,
                "error": value,
                "workers": value,
            },
        )
    )
    loss = st.integers(10**400, 10**401) | st.just(HUGE) | st.floats(0, 9) | value
    metrics = data.draw(
        st.fixed_dictionaries(
            {"epoch": number, "step": number, "train_loss": loss, "examples_per_second": loss},
            optional=dict.fromkeys(("validation_loss", "validation_rmse", "workers"), loss),
        )
    )
    metrics |= {"seconds": 1, "digest": data.draw(st.just("0f") | value)}
    (out / "status.json").write_text(written(status))
    (out / "metrics.jsonl").write_text(data.draw(st.sampled_from(["", f"{written(metrics)}\n"])))
    only_toml = st.floats() | st.dates() | st.dictionaries(st.text(), st.text(), max_size=1)
    toml = st.booleans() | st.integers() | st.text() | st.lists(st.integers()) | only_toml
    experiment = data.draw(st.dictionaries(st.sampled_from(["target", "epochs", "hidden"]), toml))
    (out / "hyperparameters.toml").write_text(tomli_w.dumps(experiment))
    key = data.draw(st.sampled_from([*(key for key in KEYS if key != "hyperparameters"), "hidden"]))
    chosen = [[], [f"--sort=-{key}"], ["--where", f"{key}!=1"], ["--where", f"{key}<1"]]
    flags = data.draw(st.sampled_from(chosen))
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        assert run(["runs", str(out), *flags]) == 0
    with redirect_stdout(StringIO()) as stdout, redirect_stderr(StringIO()):
        assert run(["runs", str(out), "--json", *flags]) == 0
    records = json.loads(stdout.getvalue(), parse_constant=pytest.fail)
    assert all(record["state"] in STATES for record in records)


HUGE = "1e999"


def written(content: dict[str, Any]) -> str:
    """JSON, with HUGE as the number that it says, which is JSON, but too great a one."""
    return json.dumps(content).replace(f'"{HUGE}"', HUGE)


# Conditions and orders

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
values = st.none() | texts | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False)


def record(**values: Any) -> dict[str, Any]:
    return dict.fromkeys(KEYS) | {"hyperparameters": {}} | values


@given(st.lists(values), st.booleans())
def test_an_order_loses_nothing_and_puts_what_is_missing_last(
    found: list[Any], is_descending: bool
) -> None:
    ordered = Order("step", is_descending)([record(step=value) for value in found])
    steps = [each["step"] for each in ordered]
    assert sorted(map(repr, steps)) == sorted(map(repr, found))
    numbers = [each for each in steps if isinstance(each, int | float)]
    assert numbers == sorted(numbers, reverse=is_descending)
    missing = found.count(None)
    assert steps[len(steps) - missing :] == [None] * missing


@given(st.integers(-99, 99), st.integers(-99, 99))
def test_conditions_compare_numbers(one: int, other: int) -> None:
    for sign, truth in {
        "=": one == other,
        "!=": one != other,
        "<": one < other,
        "<=": one <= other,
        ">": one > other,
        ">=": one >= other,
    }.items():
        assert Condition.parse(f"step{sign}{other}.0")(record(step=one)) == truth


# Dead runs


@NEEDS_PROC
def test_a_killed_run_is_dead_and_one_that_goes_on_is_not(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    with start(out) as process:
        wait_until(lambda: out.exists() and (out / "metrics.jsonl").read_bytes() != b"")
        assert said_by(capfd, "runs", out)[1].splitlines()[1].split()[1] == RUNNING
        process.kill()
        wait_until(lambda: process.poll() is not None)
    status, stdout, stderr = said_by(capfd, "runs", out)
    assert (status, stdout.splitlines()[1].split()[1]) == (0, DEAD)
    assert re.fullmatch(
        rf"run: dead: process {process.pid} on \S+ is gone, and last wrote after step \d+: go on "
        rf"with `dist-dnn train DATA --out {out} --resume`\n",
        stderr,
    )
    epochs = json.loads((out / "status.json").read_text())["epoch"] + 2
    train(DIGITS, None, {"epochs": epochs}, out=out, resume=True, workers=0)
    assert look_at(LocalFolder(out)).state == "completed"


def running(out: Path, **changes: Any) -> Look:
    """A run that says that it is running, as it is seen after these changes of its status."""
    status_of(out, **{"state": RUNNING, "checkpoint_every": "60s"} | changes)
    return look_at(LocalFolder(out))


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


@NEEDS_PROC
def test_what_can_be_known_of_a_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = own_process()
    elsewhere = own | {"boot": "another", "host": "elsewhere"}
    other_container = own | {"namespace": "pid:[1]"}
    started_anew = own | {"boot": "another"}
    out = folder / "c"
    # A local folder, which has a lock that nobody holds.
    assert running(out, process=own).state == DEAD
    assert running(out, process=started_anew).state == DEAD
    assert running(out, process=elsewhere, updated=ago(100)).state == RUNNING
    assert running(out, process=other_container, updated=ago(9999)).state == SILENT
    assert running(out, process=elsewhere, updated=ago(9999)).state == SILENT
    assert running(out, process={}, updated=ago(9999)).state == SILENT
    assert "of job x7," in str(running(out, process={}, job="x7", updated=ago(9999)).problem)
    with LocalFolder(out).locked():
        assert running(out, process=elsewhere, updated=ago(9999)).state == RUNNING
    # And a file system that has no locks.
    monkeypatch.setattr(LocalFolder, "is_locked", lambda self: None)
    assert running(out, process=own, updated=ago(9999)).state == RUNNING
    assert running(out, process=own | {"started": 1}).state == DEAD
    assert running(out, process=started_anew, updated=ago(9999)).state == SILENT
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        wait_until(lambda: not Path(f"/proc/{process.pid}/cmdline").read_bytes())
        gone = own | {"pid": process.pid}
        assert running(out, process=gone).state == DEAD  # though nobody has asked how it ended
    assert running(out, process=gone).state == DEAD


def test_silence_depends_on_how_often_a_run_writes() -> None:
    epochs = [{"seconds": 1000.0}, {"seconds": 10.0}]
    for every, done, bound in (("60s", [], 300), ("60s", epochs, 150), ("100", epochs, 150)):
        status = {"checkpoint_every": every}
        assert not is_silent(status, done, bound)
        assert is_silent(status, done, bound + 1)
    assert not is_silent({"checkpoint_every": "100"}, [], 1e9)
    assert not is_silent({}, [], 1e9)
    assert not is_silent({"checkpoint_every": "60s"}, epochs, None)


# In a store


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with s3_server() as server:
        yield Bucket(server.get_host_and_port()[1])


def test_runs_in_a_store(bucket: Bucket, capfd: pytest.CaptureFixture[str]) -> None:
    above = bucket.uri.replace("/some/run?", "/some?")
    train(DIGITS, "digit", SMALL, workers=0, out=bucket.uri)
    for name in ("begun/hyperparameters.toml", "other/notes.txt"):
        with bucket.filesystem.open_output_stream(f"{bucket.name}/some/{name}") as stream:
            stream.write(b"epochs = 3")
    status, stdout, stderr = said_by(capfd, "runs", above)
    assert status == 0
    assert [line.split()[:3] for line in stdout.splitlines()[1:]] == [
        ["begun", "broken", "-/-"],
        ["run", "completed", "2/2"],
    ]
    assert stderr == (
        "begun: broken: its first files are being written, or what did so was killed\n"
    )
    _, stdout, _ = said_by(capfd, "runs", bucket.uri, "--json")
    assert json.loads(stdout)[0]["location"] == bucket.shown
    assert "secret" not in stdout
    status, stdout, stderr = said_by(capfd, "runs", f"{above.replace('/some?', '/none?')}")
    assert (status, stdout, stderr.count("\n")) == (2, "", 1)
    assert "secret" not in stderr
    assert said_by(capfd, "watch", bucket.uri, "--progress", "none") == (0, "", "")


@NEEDS_PROC
def test_a_killed_run_in_a_store(bucket: Bucket, capfd: pytest.CaptureFixture[str]) -> None:
    uri = bucket.uri.replace("/some/run?", "/killed/run?")
    with start(uri) as process:
        wait_until(lambda: f"{bucket.name}/killed/run/manifest.json" in paths_in(bucket))
        assert json.loads(said_by(capfd, "runs", uri, "--json")[1])[0]["state"] == RUNNING
        process.kill()
    assert json.loads(said_by(capfd, "runs", uri, "--json")[1])[0]["state"] == DEAD


def paths_in(bucket: Bucket) -> set[str]:
    """The paths of all objects."""
    found = bucket.filesystem.get_file_info(FileSelector(bucket.name, recursive=True))
    return {each.path for each in found}


# What two differ in


def test_what_two_runs_differ_in(example: Path, capfd: pytest.CaptureFixture[str]) -> None:
    one, other = example / "a", example / "deep" / "er" / "b"
    _, stdout, stderr = said_by(capfd, "runs", "diff", one, other, "--json")
    assert (stdout.count("\n"), stderr) == (1, "")
    found = json.loads(stdout)
    assert found["runs"] == [str(one), str(other)]
    assert found["hyperparameters"] == {"validation": [0.2, None], "learning_rate": [0.001, 0.01]}
    assert found["results"]["digest"] == [train_digest(one), train_digest(other)]
    assert "epoch" not in found["results"]
    assert found["environment"] == {}
    assert said_by(capfd, "runs", "--json", "diff", one, other) == (0, stdout, "")
    lines = said_by(capfd, "runs", "diff", one, other)[1].splitlines()
    assert [line.split() for line in lines[:3]] == [["A", str(one)], ["B", str(other)], ["A", "B"]]
    assert max(map(len, lines[2:])) < 80
    assert ["learning_rate", "0.001", "0.01"] in [line.split() for line in lines]
    assert lines[-1] == "environment: the same"


def test_a_run_does_not_differ_from_itself(
    example: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one = str(example / "a")
    _, stdout, _ = said_by(capfd, "runs", "diff", one, one)
    assert stdout.splitlines()[3:] == [
        f"{part}: the same" for part in ("hyperparameters", "results", "environment")
    ]


def test_where_they_ran_is_compared(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = folder / "a" / "environment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"numpy": "1.0"}))
    status_of(folder / "a", workers=2)
    _, stdout, _ = said_by(capfd, "runs", "diff", folder / "a", folder / "c", "--json")
    assert json.loads(stdout)["environment"] == {
        "workers": [2, 0],
        "numpy": ["1.0", np.__version__],
    }


def test_a_folder_called_diff(
    example: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    copytree(example / "a", "diff/a")
    assert said_by(capfd, "runs", "./diff")[1].splitlines()[1].split()[0] == "a"


# Watched


def lines_of(out: Path) -> list[str]:
    """What the training of a run said in a pipe."""
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    last = f"model in {out}; next: dist-dnn evaluate {out} DATA"
    return [
        *(describe(each, len(metrics)) for each in metrics),
        f"digest {train_digest(out)}",
        last,
    ]


def test_watching_a_run_that_has_ended(example: Path, capfd: pytest.CaptureFixture[str]) -> None:
    status, stdout, stderr = said_by(capfd, "watch", example / "a")
    assert (status, stdout) == (0, "")
    assert stderr.splitlines() == lines_of(example / "a")


def test_watching_a_run_from_before_its_beginning_to_its_end(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every epoch is told once, in the words of the training itself."""
    out = tmp_path / "run"
    with start(out, "--epochs", 8, "--progress", "lines", "--batch-size", 4) as process:
        status, stdout, stderr = said_by(capfd, "watch", out, "--wait", 60)
        said = process.communicate()[1]
    assert (status, stdout) == (0, "")
    assert stderr == said
    assert stderr.splitlines() == lines_of(out)


def test_a_bar_of_a_run_that_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], after: After
) -> None:
    """What is done of an epoch is what its checkpoints tell."""
    seen: list[dict[str, Any]] = []
    out = tmp_path / "run"
    after(3, lambda: seen.append(json.loads((out / "status.json").read_text())))
    train(DIGITS, "digit", SMALL | {"batch_size": 100}, workers=0, out=out, checkpoint_every=1)
    [status] = seen
    assert status["step"] in (1, 2)
    assert status["in_epoch"]["rows"] == 100 * status["step"]
    assert 0 < status["in_epoch"]["loss"] < 9
    told: list[tuple[Any, ...]] = []

    class Told(Progress):
        def start_epoch(self, epoch: int, epochs: int, m: int, done: int) -> None:
            told.append((epoch, epochs, m, done))

        def step(self, rows: int, loss: float, seconds: float) -> None:
            told.append((rows, loss))

    watch = Watch(LocalFolder(out), Told(), 0.0)
    now = {"state": RUNNING, "epoch": 0, "step": 2, "m": 1797}
    (out / "metrics.jsonl").write_text("")
    for rows, loss in ((0, None), (200, 3.0), (500, 2.0), (500, 2.0), (100, 1.0)):
        watch._show(now | {"updated": f"{rows}", "in_epoch": {"rows": rows, "loss": loss}})
    assert told == [
        (1, 2, 1797, 0),
        (200, 3.0),
        (300, pytest.approx(400 / 300)),
        (1, 2, 1797, 100),  # it went on from an older checkpoint
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"state": "failed", "error": "it diverged"}, "{out} failed: it diverged"),
        (
            {"state": "stopped", "error": "terminated"},
            "{out} was stopped after step 6 (terminated): go on with "
            "`dist-dnn train DATA --out {out} --resume`",
        ),
        (
            {"state": "running", "process": own_process()},
            "{out} is dead, its process is gone: go on with "
            "`dist-dnn train DATA --out {out} --resume`",
        ),
    ],
    ids=["failed", "stopped", "dead"],
)
def test_watching_a_run_that_ends_badly(
    changes: dict[str, Any],
    said: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("dist_dnn.front.watch.DEATH_SECONDS", 0.0)
    out = folder / "c"
    status_of(out, step=6, **changes)
    status, stdout, stderr = said_by(capfd, "watch", out)
    assert (status, stdout) == (1, "")
    assert stderr.splitlines()[-1] == f"error: {said.format(out=out)}"


def test_every_epoch_is_told_once_and_again_after_an_older_checkpoint(folder: Path) -> None:
    """The metrics may be ahead of the status, or behind it."""
    told: list[int] = []

    class Told(Progress):
        def end_epoch(self, metrics: dict[str, Any]) -> None:
            told.append(metrics["epoch"])

    out = folder / "c"
    line = json.loads((out / "metrics.jsonl").read_text())
    watch = Watch(LocalFolder(out), Told(), 0.0)
    for done, written, new in (
        (15, 16, [6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
        (15, 16, []),
        (17, 16, [16]),
        (17, 17, [17]),
        (17, 13, []),  # what goes on with it has cut them off
        (13, 13, []),
        (13, 14, []),
        (14, 14, [14]),
        (16, 16, [15, 16]),
    ):
        lines = [json.dumps(line | {"epoch": 1 + epoch}) for epoch in range(written)]
        (out / "metrics.jsonl").write_text("".join(f"{each}\n" for each in lines))
        told.clear()
        watch._show({"state": "running", "epoch": done, "step": 0})
        assert told == new


@pytest.mark.parametrize("wait", [0, 600])
def test_watching_a_run_that_is_gone_on_with(
    wait: int, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What does so locks the folder at once, and writes the status last."""
    out = folder / "c"
    status_of(out, state="stopped", error="terminated")
    lock = ExitStack()
    pauses = [
        lambda: lock.enter_context(LocalFolder(out).locked()),
        lambda: status_of(out, state="running", error=None),
        lambda: status_of(out, state="completed"),
        lock.close,
    ]
    if not wait:
        pauses.pop(0)()
    monkeypatch.setattr("dist_dnn.front.watch.sleep", lambda seconds: pauses.pop(0)())
    status, _, stderr = said_by(capfd, "watch", out, "--wait", wait)
    assert (status, pauses) == (0, [])
    assert stderr.splitlines() == lines_of(out)


def test_watching_a_run_whose_files_go(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dist_dnn.front.watch.LOCAL_SECONDS", 0.0)
    (folder / "c" / "status.json").unlink()
    said = f"error: {folder / 'c'} cannot be watched any more: there is no status.json\n"
    assert said_by(capfd, "watch", folder / "c") == (1, "", said)


def test_an_interrupt_ends_the_watching_alone(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with start(out) as training:
        wait_until(out.exists)
        command = [sys.executable, "-m", "dist_dnn", "watch", str(out)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as watching:
            assert watching.stderr is not None
            assert watching.stderr.readline().startswith("epoch ")
            watching.send_signal(signal.SIGINT)
            last = watching.communicate()[1].splitlines()[-1]
        assert training.poll() is None
        training.terminate()
    assert watching.returncode == 128 + signal.SIGINT
    assert last == f"error: interrupted; {out} was only watched, and goes on"
