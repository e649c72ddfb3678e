"""A run that was ended and gone on with, however often, is the run that was never ended."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from limits import file_sizes
from runs import DIGITS, ROOT, After, Ending, interrupt, what_is_left

import dist_dnn.tracking
from dist_dnn import Hyperparameters, InputError, RunError, train
from dist_dnn.checkpoint import checkpoint_files, file_of
from dist_dnn.files import atomically, locked
from dist_dnn.recorder import Every
from dist_dnn.stopping import Stopped
from dist_dnn.storage import LocalFolder

EXPERIMENTS: dict[str, dict[str, Any]] = {
    "adam": {"batch_size": 300, "validation": 0.2, "schedule": "cosine", "warmup_steps": 3},
    "momentum": {"batch_size": 171, "optimizer": "nesterov", "l2": 0.1, "clip_norm": 0.5},
    "other shards": {"batch_size": 333, "optimizer": "rmsprop", "shards": 5, "seed": 3},
    "full": {"batch_size": "full", "optimizer": "adamw"},
    "rollback": {
        "batch_size": 64,
        "hidden": [64],
        "optimizer": "sgd",
        "learning_rate": 20.0,
        "on_divergence": "rollback",
    },
}


def path_of(out: Path, step: int) -> Path:
    return out / file_of(step)


def checkpoint_paths(out: Path) -> list[Path]:
    return [out / file for file in checkpoint_files(LocalFolder(out)).values()]


def trained(out: Path, given: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """The files of a run that nothing disturbs."""
    train(DIGITS, "digit", {"epochs": 3, "hidden": [16]} | given, workers=0, out=out, **settings)
    return what_is_left(out)


def ended(out: Path, given: dict[str, Any], **settings: Any) -> None:
    """Begin or go on with a run that a signal ends."""
    with pytest.raises(Stopped) as caught:
        train(
            *(DIGITS, "digit", {"epochs": 3, "hidden": [16]} | given),
            **{"workers": 0, "out": out, "resume": "auto"} | settings,
        )
    [note] = caught.value.__notes__
    status = json.loads((out / "status.json").read_text())
    assert status["state"] == "stopped"
    assert note.startswith(f"a checkpoint of step {status['step']} is in {out}: ")
    assert path_of(out, status["step"]).exists()


@pytest.mark.parametrize(
    ("name", "every"),
    [
        *((name, 1) for name in EXPERIMENTS),
        *(("adam", every) for every in (5, "30s")),
        *(
            pytest.param(name, every, marks=pytest.mark.slow)
            for name in EXPERIMENTS.keys() - {"adam"}
            for every in (5, "30s")
        ),
    ],
)
def test_no_bit_depends_on_where_a_run_was_ended(
    name: str, every: int | str, tmp_path: Path, after: After
) -> None:
    given, source = EXPERIMENTS[name], random.Random(f"{name} {every}")
    expected = trained(tmp_path / "undisturbed", given)
    steps = expected["status"][2]
    out = tmp_path / "run"
    while not out.exists() or json.loads((out / "status.json").read_text())["step"] < steps:
        after(source.randrange(1, steps // 2 + 1))
        try:
            ended(out, given, checkpoint_every=every, workers=source.choice([0, 0, 0, 2]))
        except pytest.fail.Exception:  # it was not ended
            break
    after(0)
    train(DIGITS, out=out, resume="auto", workers=0)
    assert what_is_left(out) == expected


def test_a_run_that_was_ended_at_every_step(tmp_path: Path, after: After) -> None:
    given = EXPERIMENTS["adam"]
    expected = trained(tmp_path / "undisturbed", given)
    for _ in range(expected["status"][2]):
        after(1)
        ended(tmp_path / "run", given)
    after(0)
    assert train(DIGITS, out=tmp_path / "run", resume=True, workers=3).digest == expected["digest"]
    assert what_is_left(tmp_path / "run") == expected


def test_what_comes_back_is_the_whole_run(tmp_path: Path, after: After) -> None:
    after(8)
    ended(tmp_path / "run", {})
    after(0)
    run = train(str(DIGITS), out=tmp_path / "run", resume=True, workers=0)
    assert [each["epoch"] for each in run.history] == [1, 2, 3]
    assert run.digest == run.history[-1]["digest"]


# Rolling back


def test_rolling_back_does_not_depend_on_workers_or_checkpoints(tmp_path: Path) -> None:
    given = EXPERIMENTS["rollback"]
    found = [
        trained(tmp_path / str(number), given, **settings)
        for number, settings in enumerate(
            [{}, {"checkpoint_every": 1}, {"checkpoint_every": 7, "keep": 1}]
        )
    ]
    assert found[0]["rollbacks"]
    assert {each["epoch"] for each in found[0]["rollbacks"]} == {1, 2}
    assert all("the loss is nan at step" in each["why"] for each in found[0]["rollbacks"])
    assert [each["learning_rate_factor"] for each in found[0]["metrics"]] == [0.25, 0.125, 0.125]
    assert found[1] == found[2] == found[0]
    again = train(DIGITS, "digit", {"epochs": 3, "hidden": [16]} | given, workers=3)
    assert again.digest == found[0]["digest"]


def test_without_a_run_directory_it_rolls_back_too() -> None:
    given = {"epochs": 1, "hidden": [64], **EXPERIMENTS["rollback"]}
    assert train(DIGITS, "digit", given, workers=0).history[0]["learning_rate_factor"] == 0.25


def test_a_training_that_always_diverges_is_given_up() -> None:
    given = {"epochs": 1, "optimizer": "sgd", "learning_rate": 1e38, "batch_size": 64}
    with pytest.raises(RunError, match=r"diverged: .* at step \d+ \(.*layer \d.*--learning-rate"):
        train(DIGITS, "digit", {**given, "on_divergence": "rollback"}, workers=0)


def test_parameters_that_are_not_finite_are_not_kept(tmp_path: Path) -> None:
    given = {"optimizer": "sgd", "learning_rate": 1e5, "l2": 1e37, "batch_size": 64}
    with pytest.raises(RunError, match=r"layer \d has parameters that are not finite") as caught:
        trained(tmp_path / "run", given, checkpoint_every=1)
    checkpoints = checkpoint_paths(tmp_path / "run")
    assert checkpoints == [path_of(tmp_path / "run", 0)]
    assert "of step 0," in caught.value.__notes__[0]


def test_a_divergence_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    given = EXPERIMENTS["rollback"] | {"on_divergence": "stop"}
    with pytest.raises(RunError, match=r"the loss is nan at step (\d+) ") as caught:
        trained(tmp_path / "run", given, checkpoint_every=5)
    *_, last = checkpoint_paths(tmp_path / "run")
    [note] = caught.value.__notes__
    assert note == f"the last good checkpoint, of step 15, is in {tmp_path / 'run'}"
    assert last == path_of(tmp_path / "run", 15)


# More epochs


def test_more_epochs_give_what_they_would_have_given_from_the_start(tmp_path: Path) -> None:
    given = {"batch_size": 300, "schedule": "step", "schedule_every": 2}
    expected = trained(tmp_path / "at once", given | {"epochs": 5})
    trained(tmp_path / "run", given | {"epochs": 2})
    train(DIGITS, None, {"epochs": 5}, out=tmp_path / "run", resume=True, workers=2)
    assert what_is_left(tmp_path / "run") == expected


def test_a_schedule_keeps_its_end(tmp_path: Path) -> None:
    given = {"batch_size": 300, "schedule": "cosine", "epochs": 3}
    trained(tmp_path / "run", given)
    for more in ({"epochs": 4, "schedule_epochs": 3}, {"epochs": 6}):
        train(DIGITS, None, more, out=tmp_path / "run", resume=True, workers=0)
    left = what_is_left(tmp_path / "run")
    assert tomllib.loads(left["toml"])["schedule_epochs"] == 3
    for other in ({"schedule_epochs": 6}, {"schedule": "constant"}):
        with pytest.raises(InputError, match="was begun with schedule"):
            train(DIGITS, None, other, out=tmp_path / "run", resume="auto", workers=0)
    expected = trained(tmp_path / "at once", given | {"epochs": 6, "schedule_epochs": 3})
    assert left == expected
    assert left["metrics"][2]["digest"] == left["metrics"][5]["digest"]  # its rate has come to 0
    config = tomllib.loads(left["toml"])
    assert train(DIGITS, config.pop("target"), config, workers=2).digest == left["digest"]


def test_a_model_that_was_not_trained_yet_can_be(tmp_path: Path) -> None:
    given = {"batch_size": 300, "schedule": "cosine"}
    trained(tmp_path / "run", given | {"epochs": 0})
    train(DIGITS, None, {"epochs": 3}, out=tmp_path / "run", resume=True, workers=0)
    expected = trained(tmp_path / "at once", given)
    assert what_is_left(tmp_path / "run") == expected


def test_fewer_epochs_end_it_earlier(tmp_path: Path, after: After) -> None:
    after(8)
    ended(tmp_path / "run", {"epochs": 9})
    after(0)
    run = train(DIGITS, None, {"epochs": 2}, out=tmp_path / "run", resume=True, workers=0)
    assert run.digest == trained(tmp_path / "at once", {"epochs": 2})["digest"]
    after(9)
    with pytest.raises(Stopped):
        train(DIGITS, None, {"epochs": 4}, out=tmp_path / "run", resume=True, workers=0)
    with pytest.raises(InputError, match=r"is in epoch 4 already: give --epochs 4 or more"):
        train(DIGITS, None, {"epochs": 3}, out=tmp_path / "run", resume=True)


# resume="auto"


def test_auto_leaves_a_completed_run_as_it_is(tmp_path: Path) -> None:
    out = tmp_path / "run"
    given = {"epochs": 2, "hidden": [8]}
    first = train(DIGITS, "digit", given, out=out, resume="auto", workers=0)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in out.rglob("*")}
    again = train(DIGITS, "digit", given, out=out, resume="auto", workers=0)
    assert (again.digest, again.history) == (first.digest, first.history)
    assert {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in out.rglob("*")} == before
    with pytest.raises(InputError, match="nothing to resume; give more --epochs"):
        train(DIGITS, out=out, resume=True)
    with pytest.raises(InputError, match="was begun with hidden"):
        train(DIGITS, "digit", given | {"hidden": [9]}, out=out, resume="auto", workers=0)
    # Nor does it need its checkpoints for that, or as many epochs as it has by now.
    for path in checkpoint_paths(out):
        path.unlink()
    fewer = train(DIGITS, "digit", given | {"epochs": 1}, out=out, resume="auto", workers=0)
    assert (fewer.digest, fewer.history) == (first.digest, first.history)


def test_more_epochs_that_were_cut_off_are_not_taken_for_done(tmp_path: Path) -> None:
    given = {"epochs": 1, "batch_size": 300}
    expected = trained(tmp_path / "at once", given | {"epochs": 3})
    trained(tmp_path / "run", given)
    more: dict[str, Any] = {"out": tmp_path / "run", "resume": "auto", "workers": 0}
    # It is enough for the hyperparameters, and not for what comes then.
    with file_sizes(900), pytest.raises(RunError, match="cannot be written"):
        train(DIGITS, None, {"epochs": 3}, **more)
    assert "epochs = 3" in (tmp_path / "run" / "hyperparameters.toml").read_text()
    train(DIGITS, None, {"epochs": 3}, **more)
    assert what_is_left(tmp_path / "run") == expected


# What cannot be gone on with


INTERRUPTED = {
    "hidden": [8],
    "validation": "validation.parquet",
    "epochs": 5,
    "schedule": "cosine",
    "clip_norm": 5.0,
}


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data.parquet``, ``validation.parquet`` and the run ``run``."""
    folder = tmp_path_factory.mktemp("interrupted")
    table = parquet.read_table(DIGITS)
    parquet.write_table(table.slice(0, 1500), folder / "data.parquet")
    parquet.write_table(table.slice(1500), folder / "validation.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("dist_dnn.front.api.make_progress", lambda _: Ending(9, interrupt))
        with pytest.raises(Stopped):
            train(
                *("data.parquet", "digit"),
                INTERRUPTED,
                out="run",
                checkpoint_every=2,
                workers=0,
            )
    return folder


Change = Callable[[Path], object]


def rows(change: Callable[[pa.Table], pa.Table], name: str = "data.parquet") -> Change:
    return lambda folder: parquet.write_table(
        change(parquet.read_table(folder / name)), folder / name
    )


def other_value(column: str) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        values[700] = (values[700] + 1) % 10
        place = table.schema.get_field_index(column)
        return table.set_column(place, column, pa.array(values, table[column].type))

    return change


def toml(old: str, new: str) -> Change:
    def change(folder: Path) -> None:
        path = folder / "run" / "hyperparameters.toml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return change


def no_sound_checkpoint(folder: Path) -> None:
    for path in checkpoint_paths(folder / "run"):
        path.write_bytes(path.read_bytes()[:-1])


def checkpoint_of_another(folder: Path) -> None:
    given = INTERRUPTED | {"seed": 1, "epochs": 50, "schedule_epochs": 5}
    train("data.parquet", "digit", given, workers=0, out="other")
    *_, last = checkpoint_paths(folder / "other")
    last.rename(folder / "run" / "checkpoints" / last.name)


REFUSED: dict[str, tuple[dict[str, Any], str, Change]] = {
    "no run": ({"out": "nowhere"}, "no run nowhere to resume.*--resume=auto", lambda f: None),
    "no place": ({"out": None}, "without a run directory.*--out", lambda f: None),
    "a file": ({"out": "data.parquet"}, "data.parquet is no run to resume", lambda f: None),
    "another folder": ({"out": "mine"}, "mine is no run", lambda f: (f / "mine").mkdir()),
    "no such resume": ({"resume": "maybe"}, "resume must be", lambda f: None),
    "another learning rate": (
        {"hyperparameters": {"learning_rate": 0.5}},
        "run was begun with learning_rate 0.001, not 0.5",
        lambda f: None,
    ),
    "other hyperparameters": (
        {"hyperparameters": Hyperparameters(hidden=(8,), schedule="cosine", clip_norm=5)},
        "was begun with validation 'validation.parquet', not none",
        lambda f: None,
    ),
    "another validation": ({"validation": 0.3}, "validation 'validation.parquet'", lambda f: None),
    "another target": ({"target": "pixel_0_0"}, "with target 'digit', not", lambda f: None),
    "no such hyperparameter": ({"hyperparameters": {"epoch": 3}}, "'epochs'", lambda f: None),
    "setting of another": (
        {"hyperparameters": {"momentum": 0.5}},
        "momentum is a setting of optimizer",
        lambda f: None,
    ),
    "a changed pixel": ({}, "training data has other values", rows(other_value("pixel_3_3"))),
    "a changed digit": ({}, "training data has other values", rows(other_value("digit"))),
    "rows in another order": (
        {},
        "has other values",
        rows(lambda table: table.take([1, 0, *range(2, 1500)])),
    ),
    "more rows": (
        {},
        "training data has 1501 rows, and had 1500",
        rows(lambda table: pa.concat_tables([table, table.slice(3, 1)])),
    ),
    "a column less": (
        {},
        "column 'pixel_0_0' of the training data is not there, and was uint8",
        rows(lambda table: table.drop_columns(["pixel_0_0"])),
    ),
    "a column of another type": (
        {},
        "column 'pixel_0_0' of the training data is double, and was uint8",
        rows(lambda table: table.set_column(0, "pixel_0_0", table["pixel_0_0"].cast("double"))),
    ),
    "another row to validate on": (
        {},
        "validation data has 296 rows, and had 297",
        rows(lambda table: table.slice(1), "validation.parquet"),
    ),
    "other hyperparameters.toml": ({}, "another experiment.*'adam'", toml("adam", "rmsprop")),
    "a hyperparameter less": (
        {},
        "another experiment.*clip_norm 5.0, not none",
        toml("clip_norm = 5.0\n", ""),
    ),
    "a longer schedule": (
        {},
        "another experiment.*schedule_epochs 5, not 50",
        toml("epochs = 5", "epochs = 5\nschedule_epochs = 50"),
    ),
    "no toml": ({}, "no valid TOML", toml("epochs", "[epochs")),
    "no target": ({}, "names no target", toml('target = "digit"', "")),
    "no sound checkpoint": ({}, "none of the 3 checkpoints .* is sound", no_sound_checkpoint),
    "another run's checkpoint": ({}, "another experiment.*seed 1, not 0", checkpoint_of_another),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_gone_on_with_is_refused_and_left_as_it_is(
    name: str, interrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, said, change = REFUSED[name]
    folder = Path(copytree(interrupted, tmp_path / "copy"))
    monkeypatch.chdir(folder)
    change(folder)
    before = {path: path.read_bytes() for path in (folder / "run").rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=said) as caught:
        train("data.parquet", **{"out": "run", "resume": True, "workers": 0} | given)
    assert str(caught.value).isprintable()
    assert {p: p.read_bytes() for p in (folder / "run").rglob("*") if p.is_file()} == before


def test_two_cannot_go_on_with_the_same_run(
    interrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(interrupted)
    with locked(Path("run")), pytest.raises(InputError, match="run is being written by another"):
        train("data.parquet", out="run", resume=True, workers=0)


def test_rows_that_are_not_used_and_the_files_may_be_others(
    interrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(copytree(interrupted, tmp_path / "copy"))
    monkeypatch.chdir(folder)
    undisturbed = train("data.parquet", "digit", INTERRUPTED, workers=0)
    table = parquet.read_table("data.parquet")
    (folder / "parts").mkdir()
    parquet.write_table(table.slice(0, 900), "parts/a.parquet", compression="zstd")
    parquet.write_table(table.slice(900), "parts/b.parquet")
    Path("data.parquet").unlink()
    resumed = train("parts", out="run", resume=True, workers=2)
    assert resumed.digest == undisturbed.digest


def test_a_machine_that_computes_other_bits_is_refused(
    interrupted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(copytree(interrupted, tmp_path / "copy"))
    from dist_dnn.front import api

    here = api.arithmetic()
    monkeypatch.setattr("dist_dnn.front.api.arithmetic", lambda: here | {"numpy": "1.0"})
    with pytest.raises(RunError, match=r"with numpy .*, but here it is 1\.0.*--allow-mixed-cpus"):
        train("data.parquet", out="run", resume=True, workers=0)
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr("dist_dnn.front.api.make_progress", lambda _: Ending(2, interrupt))
        with pytest.raises(Stopped):
            train("data.parquet", out="run", resume=True, workers=0, allow_mixed_cpus=True)
    assert re.match("warning: run was trained on .*numpy", capsys.readouterr().err)
    assert json.loads(Path("run/status.json").read_text())["allow_mixed_cpus"]
    with pytest.raises(RunError, match="--allow-mixed-cpus"):  # it stays the run's of the others
        train("data.parquet", out="run", resume=True, workers=0)


def test_a_damaged_checkpoint_is_passed_over(
    interrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    folder = Path(copytree(interrupted, tmp_path / "copy"))
    monkeypatch.chdir(folder)
    *_, newest = checkpoint_paths(folder / "run")
    newest.write_bytes(newest.read_bytes()[:-1])
    run = train("data.parquet", out="run", resume=True, workers=0)
    config = tomllib.loads(Path("run/hyperparameters.toml").read_text())
    assert run.digest == train("data.parquet", config.pop("target"), config, workers=0).digest
    assert f"{newest.name} is passed over" in capsys.readouterr().err
    assert what_is_left(folder / "run")["status"][0] == "completed"


def test_rows_to_validate_on_that_were_given_as_a_table_must_be_given_again(
    tmp_path: Path, after: After
) -> None:
    table = parquet.read_table(DIGITS)
    settings: dict[str, Any] = {"workers": 0, "out": tmp_path / "run", "resume": "auto"}
    after(3)
    with pytest.raises(Stopped):
        train(table, "digit", {"hidden": [8]}, validation=table.slice(0, 99), **settings)
    after(0)
    with pytest.raises(InputError, match="there is no validation data now"):
        train(table, **settings)
    with pytest.raises(InputError, match="validation data has 98 rows, and had 99"):
        train(table, validation=table.slice(0, 98), **settings)
    history = train(table, validation=table.slice(0, 99), **settings).history
    assert all("validation_loss" in each for each in history)


@pytest.mark.parametrize("text", ["null", "[1]", "3", "[" * 99999, "", "{}"])
def test_a_status_that_says_nothing_is_no_hindrance(
    text: str, interrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copytree(interrupted, tmp_path / "copy"))
    Path("run/status.json").write_text(text)
    assert len(train("data.parquet", out="run", resume=True, workers=0).history) == 5


# Faults


def test_a_second_signal_while_a_checkpoint_is_written_leaves_nothing_of_it(
    tmp_path: Path, after: After, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_over = threading.Event()

    def write_slowly(folder: LocalFolder, *_: Any) -> None:
        with atomically(path_of(folder.path, 5)) as made:
            made.write_bytes(b"the beginning of it")
            os.kill(os.getpid(), signal.SIGINT)
            is_over.wait()

    expected = trained(tmp_path / "undisturbed", {})
    after(5)
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        write, calls = dist_dnn.tracking.write_checkpoint, iter([True])
        patch.setattr(
            "dist_dnn.tracking.write_checkpoint",
            lambda *given: write(*given) if next(calls, False) else write_slowly(*given),
        )
        with pytest.raises(Stopped) as caught:
            train(DIGITS, "digit", {"epochs": 3, "hidden": [16]}, workers=0, out=out)
    assert caught.value.at_once
    for folder in (tmp_path, out, out / "checkpoints"):
        assert not [name for name in os.listdir(folder) if name.startswith(".")]
    assert json.loads((out / "status.json").read_text())["state"] == "stopped"
    is_over.set()
    after(0)
    train(DIGITS, out=out, resume=True, workers=0)
    assert what_is_left(out) == expected


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks into /proc")
def test_data_that_changes_under_a_run_is_noticed_when_it_is_read_again(
    tmp_path: Path, after: After
) -> None:
    data, out = tmp_path / "x.parquet", tmp_path / "run"
    table = parquet.read_table(DIGITS)
    parquet.write_table(table, data)

    def change_and_kill() -> None:
        parquet.write_table(table.take(list(range(table.num_rows))[::-1]), data)
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)

    after(5, change_and_kill)
    with pytest.raises(InputError, match=r"x\.parquet has changed since it was opened") as caught:
        train(data, "digit", {"hidden": [8]}, workers=2, out=out)
    assert caught.value.__notes__ == [
        f"a checkpoint of step 5 is in {out}: go on with `dist-dnn train DATA --out {out} --resume`"
    ]


@pytest.mark.parametrize("step", [3, 6, 7, 8, 15])
def test_a_full_disk_ends_the_run_and_can_be_gone_on_from(
    step: int, tmp_path: Path, after: After
) -> None:
    given = {"batch_size": 300}
    expected = trained(tmp_path / "undisturbed", given)
    out = tmp_path / "run"
    says = r"run/[\w/.-]+ cannot be written: .*too large"
    with file_sizes() as limit:
        after(step, lambda: limit(200))
        with pytest.raises(RunError, match=says) as caught:
            trained(out, given, checkpoint_every=1)
    assert "--resume" in caught.value.__notes__[0]
    after(0)
    train(DIGITS, out=out, resume=True, workers=0)
    assert what_is_left(out) == expected


def test_a_run_that_cannot_be_written_at_all_leaves_nothing(tmp_path: Path) -> None:
    with file_sizes(200), pytest.raises(RunError, match=r"/run/\S+ cannot be written"):
        trained(tmp_path / "run", {})
    assert os.listdir(tmp_path) == []


def test_only_so_many_checkpoints_stay(tmp_path: Path) -> None:
    trained(tmp_path / "run", {"validation": 0.2, "epochs": 9, "learning_rate": 0.1}, keep=2)
    metrics = what_is_left(tmp_path / "run")["metrics"]
    best = min(metrics, key=lambda each: each["validation_loss"])["step"]
    steps = [each["step"] for each in metrics]
    paths = [path_of(tmp_path / "run", step) for step in {best, *steps[-2:]}]
    assert checkpoint_paths(tmp_path / "run") == sorted(paths)
    assert best < steps[-2]


def kill_at_random_moments(out: Path, source: random.Random, kills: int) -> int:
    """Train by the command line, killing the driver now and then; how often it was killed."""
    command = [
        *(sys.executable, "-m", "dist_dnn", "train", str(DIGITS), "--target", "digit"),
        *("--out", str(out), "--resume=auto", "--progress", "none", "--hidden", "64"),
        *("--batch-size", "64", "--epochs", "40", "--validation", "0.2"),
    ]
    killed = 0
    while True:
        flags = ["--workers", str(source.randrange(4)), "--checkpoint-every", "2"]
        driver = subprocess.Popen([*command, *flags], cwd=ROOT, stderr=subprocess.PIPE)
        if killed < kills:
            # Starting takes about half a second, the training about as long.
            time.sleep(source.choice([0.1, 0.5, 0.6, 0.7, 0.8, 0.9]) + source.random() / 5)
            driver.kill()
        _, errors = driver.communicate(timeout=120)
        if driver.returncode == 0:
            return killed
        assert driver.returncode == -signal.SIGKILL, errors
        killed += 1


@pytest.mark.parametrize(("seed", "kills"), [(1, 6), pytest.param(2, 60, marks=pytest.mark.slow)])
def test_a_driver_killed_at_random_moments(seed: int, kills: int, tmp_path: Path) -> None:
    given = {"hidden": [64], "batch_size": 64, "epochs": 40, "validation": 0.2}
    expected = trained(tmp_path / "undisturbed", given)
    assert kill_at_random_moments(tmp_path / "run", random.Random(seed), kills) >= 3
    assert what_is_left(tmp_path / "run") == expected
    assert sorted(os.listdir(tmp_path)) == ["run", "undisturbed"]


# When checkpoints are made


@pytest.mark.parametrize(
    ("text", "every"),
    [
        ("100", Every(steps=100)),
        (7, Every(steps=7)),
        ("30s", Every(seconds=30)),
        ("0.5s", Every(seconds=0.5)),
    ],
)
def test_steps_or_seconds(text: int | str, every: Every) -> None:
    assert Every.parse(text) == every


@pytest.mark.parametrize("text", ["", "s", "0", "-1", "0s", "1.5", "nans", "infs", "1m", 0, None])
def test_neither_steps_nor_seconds(text: Any) -> None:
    with pytest.raises(InputError, match=r"checkpoint_every must be .* 30s"):
        Every.parse(text)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"keep": 0}, "keep must be"),
        ({"keep": 1.5}, "keep must be"),
        ({"keep": None}, "keep must be"),
        ({"max_failures": -1}, "max_failures must be"),
        ({"step_timeout": 0.0}, "step_timeout must be"),
        ({"step_timeout": np.nan}, "step_timeout must be"),
    ],
)
def test_flags_out_of_range(flags: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        train(DIGITS, "digit", workers=0, **flags)
