"""A run's gauges: what is served while it trains, and what the dashboard shows of it."""

import json
import re
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from runs import DIGITS, ROOT, After

from dist_dnn import InputError, train
from dist_dnn.gauges import DESCRIPTIONS, PREFIX, Gauges

DASHBOARD = ROOT / "scripts" / "cluster" / "grafana.json"
SMALL: dict[str, Any] = {"hidden": [8], "epochs": 2, "batch_size": 300, "validation": 0.2}


def port_in(said: str) -> int:
    found = re.search(r"^metrics at http://127\.0\.0\.1:(\d+)/metrics$", said, re.MULTILINE)
    assert found is not None, said
    return int(found[1])


def served_at(port: int) -> dict[str, tuple[str, float]]:
    """Each gauge's run and value by its name."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found = [re.fullmatch(r'(\w+)\{run="(.*)"\} (\S+)', line) for line in lines]
    return {each[1]: (each[2], float(each[3])) for each in found if each}


@pytest.mark.parametrize("workers", [0, 2])
def test_gauges_are_served_while_it_trains_and_change_no_bit(
    workers: int, after: After, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    expected = train(DIGITS, "digit", SMALL, workers=0).digest
    seen: dict[str, tuple[str, float]] = {}
    ports: list[int] = []

    def read() -> None:
        ports.append(port_in(capfd.readouterr().err))
        seen.update(served_at(ports[0]))

    after(6, read)  # of 5 steps an epoch; what reports before it has the one before
    run = train(DIGITS, "digit", SMALL, workers=workers, out=tmp_path / "watched", metrics_port=0)
    assert run.digest == expected
    assert {label for label, _ in seen.values()} == {"watched"}
    values = {name.removeprefix(PREFIX): value for name, (_, value) in seen.items()}
    assert values.keys() == DESCRIPTIONS.keys() - {"validation_rmse"}
    first = run.history[0]
    for name in ("epoch", "step", "train_loss", "validation_loss", "validation_accuracy"):
        assert values[name] == first[name]
    # The last step of an epoch has what is left of the rows.
    assert 0 < values["examples_per_second"] * values["step_seconds"] <= 300
    assert values["loss"] > 0
    with pytest.raises(OSError, match="refused"):
        served_at(ports[0])


def test_nothing_is_told_before_the_first_step() -> None:
    gauges = Gauges()
    assert gauges.values() == {}
    gauges.step(10, 0.5, 2.0)
    assert gauges.values() == {"loss": 0.5, "examples_per_second": 5.0, "step_seconds": 2.0}


def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = ["train", str(DIGITS), "--target", "digit", "--out", "run", "--workers", "0"]
        done = subprocess.run(
            [sys.executable, "-m", "dist_dnn", *command, "--metrics-port", str(port)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: --metrics-port {port} cannot be had: Address already in use; give another one, "
        f"or 0 for one that is free\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("port", [-1, 65536, "80", True])
def test_a_port_that_is_none(port: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is known before there are workers."""
    monkeypatch.setattr("workers.launch.run", lambda *_: pytest.fail("something was started"))
    with pytest.raises(InputError, match="metrics_port must be a whole number from 0 to 65535"):
        train(DIGITS, "digit", SMALL, workers=0, metrics_port=port)


# The dashboard


def test_the_dashboard_shows_what_is_exported_and_all_of_it() -> None:
    names = set(re.findall(r"\b(?:ray_)?dist_dnn_\w+", DASHBOARD.read_text()))
    exported = {PREFIX + name for name in DESCRIPTIONS}
    assert names == exported | {f"ray_{name}" for name in exported}


def test_the_dashboard_can_be_imported() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    variables = {each["name"]: each for each in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["run"]["datasource"]["uid"] == "${datasource}"
    assert dashboard["id"] is None
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & places, "panels lie over each other"
        places |= cells
        for target in panel["targets"]:
            assert 'run=~"$run"' in target["expr"]
            assert target["legendFormat"].startswith("{{run}}")
