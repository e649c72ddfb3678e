"""The test of a training: scored once when it has ended, whatever happened before."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from runs import DIGITS, Ending, interrupt

from dist_dnn import RunError, train
from dist_dnn.front.cli import run as main
from dist_dnn.stopping import Stopped

FLAGS = ("--hidden", "8", "--workers", "0")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Rows to train on, and rows to test on."""
    folder = tmp_path_factory.mktemp("parts")
    table = parquet.read_table(DIGITS)
    is_test = np.random.default_rng(0).random(table.num_rows) < 0.3
    for name, part in (("training", ~is_test), ("test", is_test)):
        parquet.write_table(table.filter(pa.array(part)), folder / f"{name}.parquet")
    return str(folder / "training.parquet"), str(folder / "test.parquet")


def status(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "status.json").read_text())
    return found


def evaluated(out: Path, data: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    main(["evaluate", str(out), data])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_scores_of_the_stored_model(
    parts: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, test = parts
    begin = ("train", data, "--target", "digit", *FLAGS, "--epochs", "1", "--test", test)
    assert main([*begin, "--out", str(tmp_path / "run")]) == 0
    stdout, stderr = capsys.readouterr()
    scores = status(tmp_path / "run")["test"]
    line = stderr.splitlines()[-3]
    assert stdout == ""
    assert line.startswith(f"test: {scores['m']} rows  loss {scores['loss']:.4f}  accuracy ")
    assert f'test = "{test}"\n' in (tmp_path / "run" / "hyperparameters.toml").read_text()
    assert evaluated(tmp_path / "run", test, capsys) == scores
    given = {"hidden": [8], "epochs": 1}
    for workers in (0, 3):
        run = train(data, "digit", given, test=parquet.read_table(test), workers=workers)
        assert run.test == scores
    assert train(data, "digit", given, workers=0).digest == run.digest
    assert train(data, "digit", given, workers=0).test == {}


def test_a_completed_run_knows_its_scores_and_more_epochs_have_others(
    parts: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, test = parts
    given = {"hidden": [8], "epochs": 1, "test": test}
    first = train(data, "digit", given, workers=0, out=tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr("dist_dnn.front.api.score", lambda *_: pytest.fail("scored again"))
        again = train(data, "digit", given, workers=0, out=tmp_path / "run", resume="auto")
    assert again.test == first.test
    given = {"epochs": 2}
    more = train(data, None, given, workers=2, out=tmp_path / "run", resume=True)
    assert more.test["accuracy"] != first.test["accuracy"]
    assert status(tmp_path / "run")["test"] == more.test
    assert evaluated(tmp_path / "run", test, capsys) == more.test


def test_a_run_that_was_ended_has_no_scores_yet(
    parts: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, test = parts
    given = {"hidden": [8], "epochs": 1}
    with monkeypatch.context() as patch:
        patch.setattr("dist_dnn.front.api.make_progress", lambda _: Ending(3, interrupt))
        with pytest.raises(Stopped):
            train(data, "digit", given, workers=0, out=tmp_path / "run", test=test)
    assert status(tmp_path / "run")["state"] == "stopped"
    assert "test" not in status(tmp_path / "run")

    def fail(*_: object) -> None:
        raise RunError("too many workers were lost")

    with monkeypatch.context() as patch:
        patch.setattr("dist_dnn.front.api.score", fail)
        with pytest.raises(RunError, match="too many"):
            train(data, workers=0, out=tmp_path / "run", resume=True)
    assert (status(tmp_path / "run")["state"], status(tmp_path / "run")["epoch"]) == ("failed", 1)
    assert "test" not in status(tmp_path / "run")
    run = train(data, workers=0, out=tmp_path / "run", resume=True)
    assert status(tmp_path / "run")["test"] == run.test
    assert status(tmp_path / "run")["state"] == "completed"
    assert run.test == train(data, "digit", given, workers=0, test=test).test
