"""Measure whole training steps: one JSON object on standard output, a table on standard error."""

import argparse
import resource
import statistics
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from against import compare_against
from beside import compare_beside, otherwise
from comparisons import LEAST_ROUNDS, WARM_UP_STEPS
from measuring_command import layers, printed
from own_steps import BATCHES, Workload
from peers.process import LIBRARIES, OPTIMIZERS, check_peers

from dist_dnn.checkpoint import Surroundings
from dist_dnn.errors import InputError
from dist_dnn.front.profiling import print_profile
from dist_dnn.hyperparameters import Hyperparameters
from dist_dnn.products import Products
from dist_dnn.profile import Spent, added_up
from dist_dnn.recorder import Every, Recorder
from dist_dnn.rounds import Group
from dist_dnn.storage import LocalFolder
from dist_dnn.tracking import RunDirectory
from dist_dnn.trainer import Keeper, NoKeeper, Trainer
from workers import launch
from workers.group import Reach

TURN_SECONDS = 3.0
"""How long steps are made with checkpoints, and without, before the other's turn."""

PARTS = {"compute": ("gather", "forward", "backward", "addition"), "reduce": ("reduce",)}
"""The parts of a step, by the phases of a worker."""


def main() -> int:
    """Measure what the command line asks for; returns the exit status."""
    chosen = _parser().parse_args()
    return printed(lambda: measure(chosen))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Measure whole training steps against their matrix products alone.",
        epilog="example: python scripts/benchmark.py --layers 784,512,256,10 --batch-size 512 "
        "--workers 2 --shards 2",
    )
    parser.add_argument("--layers", required=True, type=layers, metavar="N,N,…")
    parser.add_argument("--batch-size", required=True, type=int, metavar="B")
    parser.add_argument("--workers", type=int, metavar="N", help="default 2, or all ranks of MPI")
    parser.add_argument("--backend", default="local", metavar="NAME")
    parser.add_argument("--shards", type=int, default=8, metavar="S")
    parser.add_argument("--optimizer", default="sgd", metavar="NAME")
    parser.add_argument("--steps", type=int, default=70, metavar="N", help="steps to measure")
    parser.add_argument(
        "--against",
        type=lambda names: names.split(","),
        default=[],
        metavar="NAME,…",
        help=f"other software, whose steps take turns with ours: {', '.join(LIBRARIES)}",
    )
    parser.add_argument(
        "--beside",
        metavar="BACKEND|workers=N|optimizer=NAME",
        help="the same steps but for one thing, which take turns with these",
    )
    parser.add_argument(
        "--rounds", type=int, default=LEAST_ROUNDS, metavar="N", help="how often turns are taken"
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="show where the time of the driver and of each worker goes, and workers' memory",
    )
    parser.add_argument(
        "--checkpoint-every",
        metavar="N|SECONDSs",
        help="measure the rate with such checkpoints over the rate without, too",
    )
    return parser


def measure(chosen: argparse.Namespace) -> dict[str, Any] | None:
    """Alternate steps and products in one group of workers; medians over all of them.

    Returns:
        None in a process that only serves another one.

    Raises:
        InputError, RunError: as training does.
    """
    _check(chosen)
    hyperparameters = Hyperparameters(
        hidden=chosen.layers[1:-1],
        optimizer=chosen.optimizer,
        learning_rate=0.001,
        batch_size=chosen.batch_size,
        shards=chosen.shards,
    )
    workload = Workload(chosen.layers, hyperparameters)
    settings = launch.Settings(chosen.backend, chosen.workers)
    other = None if chosen.beside is None else otherwise(chosen.beside, settings, workload)

    def main(reach: Reach) -> dict[str, Any]:
        with reach.group(chosen.shards) as group:
            result = _drive(group, chosen, workload)
            if other is not None:
                compared = compare_beside(group, reach.workers, workload, *other, chosen.rounds)
                _print_table(compared)
                result |= compared
            if chosen.against:
                result |= compare_against(
                    chosen.against, group, reach.workers, workload, chosen.rounds
                )
        return result

    return launch.run(settings, main)


def _check(chosen: argparse.Namespace) -> None:
    if chosen.steps < 1:
        raise InputError(f"--steps must be above 0, not {chosen.steps}")
    least = LEAST_ROUNDS if chosen.against or chosen.beside is not None else 1
    if chosen.rounds < least:
        raise InputError(f"--rounds must be at least {least} here, not {chosen.rounds}")
    check_peers(chosen.against)
    if chosen.against and chosen.optimizer not in OPTIMIZERS:
        raise InputError(
            f"--against compares {' and '.join(OPTIMIZERS)}, not {chosen.optimizer}: "
            f"choose one of them as --optimizer"
        )


def _drive(group: Group, chosen: argparse.Namespace, workload: Workload) -> dict[str, Any]:
    trainer = workload.trainer(group)
    times, stretches = _times(group, trainer, chosen)
    result: dict[str, Any] = _summary(times, chosen.batch_size)
    if chosen.checkpoint_every is not None:
        every = Every.parse(chosen.checkpoint_every)
        result["rate_with_checkpoints"] = _rate_with_checkpoints(
            trainer, workload.hyperparameters, every, chosen.rounds
        )
    _print_table(result)
    if chosen.profile:
        spent = added_up(stretches)
        print_profile(spent)
        result["profile"] = spent
    return result


def _times(
    group: Group, trainer: Trainer, chosen: argparse.Namespace
) -> tuple[dict[str, list[float]], list[Spent]]:
    """The seconds of steps, of their parts and of products, by turns; and each turn's profile."""
    network = trainer.experiment.network.arguments()
    products = group.open(Products, {"network": network, "batch_size": chosen.batch_size})
    times: dict[str, list[float]] = {
        name: [] for name in ("step", "compute", "reduce", "update", "gemm")
    }
    for number in range(WARM_UP_STEPS):
        trainer.step(1, number % BATCHES)
    repetitions = _repetitions(products)
    stretches = []
    for number in range(chosen.rounds):
        first, last = (chosen.steps * turn // chosen.rounds for turn in (number, number + 1))
        trainer.profile.read()
        for step in range(first, last):
            trainer.step(1, step % BATCHES)
            for name, seconds in vars(trainer.times).items():
                times[name].append(seconds)
        stretches.append(spent := trainer.profile.read())
        for name, phases in PARTS.items():
            slowest = max(sum(each[phase] for phase in phases) for each in spent["workers"])
            times[name].append(slowest / max(1, last - first))
        began = perf_counter()
        products.run(repetitions)
        times["gemm"].append((perf_counter() - began) / repetitions)
    return times, stretches


def _rate_with_checkpoints(
    trainer: Trainer, hyperparameters: Hyperparameters, every: Every, rounds: int
) -> float:
    """Steps a second with checkpoints over those without, taking turns: the median ratio."""
    state = trainer.state
    model = trainer.experiment.model(trainer.parameters, hyperparameters.shards)
    surroundings = Surroundings(hyperparameters.to_mapping(), model.data_to_json(), {}, {}, {})
    with TemporaryDirectory() as folder, ExitStack() as stack:
        directory = RunDirectory(LocalFolder(Path(folder, "run")), model, surroundings, {}, keep=3)
        directory.begin(state, stack)
        with Recorder(directory, state, every) as recorder:
            ratios = []
            for number in range(rounds):
                turns = (NoKeeper(), recorder) if number % 2 else (recorder, NoKeeper())
                rates = {turn: _rate(trainer, turn) for turn in turns}
                ratios.append(rates.pop(recorder) / rates.popitem()[1])
    return statistics.median(ratios)


def _rate(trainer: Trainer, keeper: Keeper) -> float:
    """Steps a second while a keeper is shown the state."""
    began, steps = perf_counter(), 0
    while perf_counter() - began < TURN_SECONDS:
        trainer.step(1, steps % BATCHES)
        trainer.state.epoch += 1  # so that the state stands after another step
        keeper.stepped(trainer.state)
        steps += 1
    return steps / (perf_counter() - began)


def _repetitions(products: Any) -> int:
    """How often to repeat the products, so that starting the round does not count."""
    products.run(1)
    began = perf_counter()
    products.run(3)
    return max(3, int(0.1 / (perf_counter() - began) * 3))


def _summary(times: dict[str, list[float]], batch_size: int) -> dict[str, float]:
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    peak = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return {
        "examples_per_second": batch_size / medians["step"],
        "step_ms_median": 1e3 * medians["step"],
        "gemm_ms": 1e3 * medians["gemm"],
        "gemm_fraction": medians["gemm"] / medians["step"],
        "compute_ms": 1e3 * medians["compute"],
        "reduce_ms": 1e3 * medians["reduce"],
        "update_ms": 1e3 * medians["update"],
        "peak_rss_mb": peak / (2**20 if sys.platform == "darwin" else 2**10),
    }


def _print_table(result: dict[str, float]) -> None:
    for name, value in result.items():
        print(f"{name:<20} {value:>14,.3f}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
