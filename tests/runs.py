"""Trainings that are ended in the middle, what they leave, and the processes they had."""

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from dist_dnn.model import Model
from dist_dnn.reporting import Progress

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "scripts" / "data" / "digits.parquet"
TIMES = ("seconds", "examples_per_second")

After = Callable[..., None]
"""What the fixture ``after`` gives."""


class Ending(Progress):
    """Does something after so many steps of a training."""

    def __init__(self, steps: int, end: Callable[[], object]) -> None:
        self.steps = steps
        self.end = end

    def step(self, rows: int, loss: float, seconds: float) -> None:
        self.steps -= 1
        if self.steps == 0:
            self.end()


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def what_is_left(out: Path) -> dict[str, Any]:
    """What a run's files say that must not depend on how it came about."""
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    status = json.loads((out / "status.json").read_text())
    assert not [name for name in os.listdir(out) if name.startswith(".")]
    assert not [name for name in os.listdir(out / "checkpoints") if name.startswith(".")]
    return {
        "metrics": [{k: v for k, v in each.items() if k not in TIMES} for each in metrics],
        "status": [status[name] for name in ("state", "epoch", "step", "error")],
        "rollbacks": status.get("rollbacks"),
        "digest": Model.load(str(out)).digest,
        "toml": (out / "hyperparameters.toml").read_text(),
        "features": (out / "features.json").read_text(),
    }


def descendants(process: int) -> set[int]:
    children: set[int] = set()
    with suppress(OSError):  # it has ended meanwhile
        for thread in Path(f"/proc/{process}/task").iterdir():
            children |= {int(child) for child in (thread / "children").read_text().split()}
    return children.union(*map(descendants, children))


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until(condition: object, seconds: float = 60) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come in time"
        time.sleep(0.02)
