"""The process of one peer: ``python scripts/peer.py NAME FOLDER [RANK]`` takes turns until told.

Each line of standard input is a JSON object, {"steps": 100}, and so is each line of standard
output: {} when the peer is there, then {"steps": 100, "seconds": 1.2, "loss": 2.3} for each turn.
"""

import json
import os
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from peers.steps import Steps
from peers.task import Task


def main() -> None:
    """Serve the one who started this process until its standard input ends."""
    name, folder, *rank = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    steps = _make(name, Path(folder), int(rank[0]) if rank else 0)
    _answer(answers, {})
    for line in sys.stdin:
        asked = json.loads(line)["steps"]
        began = perf_counter()
        made, loss = steps.run(asked)
        _answer(answers, {"steps": made, "seconds": perf_counter() - began, "loss": loss})
    steps.close()


def _answer(answers: Any, answer: dict[str, float]) -> None:
    print(json.dumps(answer), file=answers, flush=True)


def _make(name: str, folder: Path, rank: int) -> Steps:
    """The peer of a name; its library alone is imported."""
    task = Task.load(folder)
    match name:
        case "torch":
            from peers.torch_steps import TorchSteps

            return TorchSteps(task)
        case "ddp":
            from peers.ddp_steps import DdpSteps

            return DdpSteps(task, folder, rank)
        case "jax":
            from peers.jax_steps import JaxSteps

            return JaxSteps(task)
        case "sklearn":
            from peers.sklearn_steps import SklearnSteps

            return SklearnSteps(task)
    raise ValueError(f"there is no peer {name!r}")


if __name__ == "__main__":
    main()
