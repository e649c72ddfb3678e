"""The command plan: what a training step would take on so many workers."""

import json
from typing import Any

from dist_dnn.errors import InputError
from dist_dnn.front.measuring import Training, measure_core
from dist_dnn.front.measuring_workers import LONGEST_STEP, cores, measure_sharing, measure_steps
from dist_dnn.front.planning import (
    HALF,
    Core,
    Memory,
    Planner,
    Prediction,
    Reach,
    Wires,
    Work,
    numbers_of_workers,
)
from dist_dnn.front.tables import print_table
from dist_dnn.hyperparameters import Hyperparameters
from dist_dnn.nn.network import Network
from dist_dnn.nn.optimizers import make_optimizer

MOST_WORKERS = 1024
"""And shards, that are planned for."""

LATENCY = 50e-6
"""Seconds, where a bandwidth is given and no latency: about a message over Ethernet by TCP."""

OTHER_MEMORY = 10e9
"""Bytes a second that a core moves, where it is not this machine's that is planned for."""

VERIFIED_WORKERS = (1, 2)


def plan_command(chosen: Any) -> None:
    """Print what the model predicts, and with --verify what local workers take.

    Args:
        chosen: the command line.

    Raises:
        InputError: a flag that cannot be used, or one too few.
    """
    network, training = _read(chosen)
    work = Work.of(network, training.batch_size, training.shards)
    extrapolated: list[str] = []
    if chosen.flops is not None:
        core = _other_core(chosen.flops, training.optimizer)
    else:
        core, extrapolated = measure_core(training, chosen.workers)
    if chosen.bandwidth is None:
        reach: Reach = _memory(core, work, training, chosen.workers)
    else:
        latency = LATENCY if chosen.latency is None else chosen.latency
        reach = Wires(chosen.bandwidth, latency)
    planner = Planner(work, core, reach)
    verified = _verify(core, work, training) if chosen.verify else None
    result = _result(planner, training, chosen.workers) | {
        "core": vars(core) | {"measured": chosen.flops is None, "extrapolated": extrapolated},
        "reach": {"kind": "memory" if chosen.bandwidth is None else "network"} | vars(reach),
    }
    if verified is not None:
        result["verified"] = verified
    if chosen.json:
        print(json.dumps(result))
    else:
        _print(result)


def _read(chosen: Any) -> tuple[Network, Training]:
    """The network and the training that the command line asks for.

    Raises:
        InputError: it asks for none.
    """
    shards = chosen.shards
    if shards is None:
        shards = max(Hyperparameters().shards, chosen.workers)
    for name, value, most in (
        ("--batch-size", chosen.batch_size, None),
        ("--workers", chosen.workers, MOST_WORKERS),
        ("--shards", shards, MOST_WORKERS),
    ):
        if value < 1 or (most is not None and value > most):
            upper = "above 0" if most is None else f"from 1 to {most:,}"
            raise InputError(f"{name} must be a whole number {upper}, not {value}")
    if chosen.workers > shards:
        raise InputError(
            f"{chosen.workers} workers are more than {shards} shards: give --shards "
            f"{chosen.workers}, or fewer --workers"
        )
    if chosen.latency is not None and chosen.bandwidth is None:
        raise InputError("--latency is a network's: give its --bandwidth, too")
    if chosen.flops is not None and chosen.bandwidth is None:
        raise InputError("--flops plans for other machines: give their network's --bandwidth, too")
    if chosen.flops is not None and chosen.verify:
        raise InputError("--verify measures this machine, and --flops plans for others: leave one")
    try:
        network = Network(tuple(chosen.sizes), loss="half_squared_error")
    except ValueError as error:
        raise InputError(str(error)) from None
    return network, Training(network.layer_sizes, chosen.batch_size, shards, chosen.optimizer)


def _other_core(flops: float, optimizer: str) -> Core:
    """A core of which nothing but its rate is known."""
    vectors = len(make_optimizer(optimizer).vectors)
    read_and_write = 8
    return Core(
        flops,
        call=0.0,
        block=0.0,
        row=0.0,
        addition=12 / OTHER_MEMORY,
        update=(2 + vectors) * read_and_write / OTHER_MEMORY,
    )


def _memory(core: Core, work: Work, training: Training, workers: int) -> Memory:
    """This machine's memory, with a round of as many workers as it has cores for."""
    compute = core.compute(work, -(-work.shards // workers))
    update = work.parameters * core.update
    return measure_sharing(training, min(workers, cores()), compute, update)


def _verify(core: Core, work: Work, training: Training) -> list[dict[str, float]]:
    """What the model says of local workers, beside what they take.

    Raises:
        InputError: a step would take too long.
    """
    counts = [each for each in VERIFIED_WORKERS if each <= min(cores(), work.shards)]
    predicted = {
        each: Planner(work, core, _memory(core, work, training, each)).predict(each).seconds
        for each in counts
    }
    if predicted[1] > LONGEST_STEP:
        raise InputError(
            f"a step would take {predicted[1]:.0f} s of one worker here, and --verify makes steps "
            f"of at most {LONGEST_STEP:.0f} s: give a smaller --batch-size"
        )
    measured = measure_steps(training, counts)
    return [
        {
            "workers": each,
            "predicted_ms": 1e3 * predicted[each],
            "measured_ms": 1e3 * measured[each],
            "predicted_over_measured": predicted[each] / measured[each],
        }
        for each in counts
    ]


# What is printed


def _result(planner: Planner, training: Training, workers: int) -> dict[str, Any]:
    several = workers > 1
    return {
        "layers": list(training.layers),
        "parameters": planner.work.parameters,
        "batch_size": training.batch_size,
        "shards": training.shards,
        "workers": workers,
        "optimizer": training.optimizer,
        "predictions": [_row(planner.predict(each)) for each in numbers_of_workers(workers)],
        "efficient_from": planner.efficient_from(workers) if several else None,
        "faster_from": planner.faster_from(workers) if several else None,
    }


def _row(prediction: Prediction) -> dict[str, float]:
    return {
        "workers": prediction.workers,
        "step_ms": 1e3 * prediction.seconds,
        "examples_per_second": prediction.examples_per_second,
        "efficiency": prediction.efficiency,
        "sent_bytes": prediction.sent,
        "received_bytes": prediction.received,
        "driver_sent_bytes": prediction.driver_sent,
        "driver_received_bytes": prediction.driver_received,
        "compute_ms": 1e3 * prediction.compute,
        "broadcast_ms": 1e3 * prediction.broadcast,
        "reduce_ms": 1e3 * prediction.reduce,
        "update_ms": 1e3 * prediction.update,
    }


_COLUMNS = {
    "workers": ("workers", ",.0f"),
    "step_ms": ("step ms", ",.3f"),
    "examples_per_second": ("examples/s", ",.0f"),
    "efficiency": ("efficiency", ".0%"),
    "sent_bytes": ("bytes sent", ",.0f"),
    "received_bytes": ("received", ",.0f"),
    "compute_ms": ("compute ms", ",.3f"),
    "broadcast_ms": ("broadcast", ",.3f"),
    "reduce_ms": ("reduce", ",.3f"),
    "update_ms": ("update", ",.3f"),
}
"""Of the table of predictions: the heading of each key, and how its numbers are written."""

_VERIFIED_COLUMNS = {
    "workers": ("workers", ",.0f"),
    "predicted_ms": ("predicted ms", ",.3f"),
    "measured_ms": ("measured ms", ",.3f"),
    "predicted_over_measured": ("predicted / measured", ".2f"),
}


def _print(result: dict[str, Any]) -> None:
    """Print the result for people."""
    print(
        f"{'-'.join(map(str, result['layers']))}, {result['parameters']:,} parameters; batches of "
        f"{result['batch_size']:,} in {result['shards']:,} shards; {result['optimizer']}"
    )
    print(f"{_core_line(result['core'])}\n{_reach_line(result)}\n")
    _print_columns(_COLUMNS, result["predictions"])
    print(
        "\nefficiency: the speed-up over one worker / workers; bytes: the most that a worker "
        "beside the driver sends and receives in a step"
    )
    if result["workers"] > 1:
        _print_when_it_pays(result)
    if "verified" in result:
        print("\nlocal workers, measured here:\n")
        _print_columns(_VERIFIED_COLUMNS, result["verified"])


def _core_line(core: dict[str, Any]) -> str:
    products = f"a worker's core: {core['flops'] / 1e9:,.1f} GFLOP/s of matrix products"
    if not core["measured"]:
        return (
            f"{products}, given; beside them only additions and updates are counted, "
            f"at {OTHER_MEMORY / 1e9:.0f} GB/s"
        )
    measured = f"{products}, measured here, as was the rest of a step"
    return ", extrapolated ".join([measured, *core["extrapolated"]])


def _reach_line(result: dict[str, Any]) -> str:
    reach = result["reach"]
    if reach["kind"] == "network":
        return (
            f"between them a network of {reach['bandwidth'] * 8 / 1e9:,.3g} Gb/s and "
            f"{reach['latency'] * 1e6:,.3g} µs, as MPI ranks use it; a worker on each machine"
        )
    line = (
        "between them this machine's memory (no --bandwidth is given): what another worker "
        "receives, it reads there"
    )
    if result["workers"] > cores():
        line += f"; there are {cores()} cores here, and the plan is for {result['workers']} of them"
    return line


def _print_columns(columns: dict[str, tuple[str, str]], rows: list[dict[str, float]]) -> None:
    lines = [tuple(heading for heading, _ in columns.values())]
    lines += [tuple(format(row[key], form) for key, (_, form) in columns.items()) for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    print_table(
        [
            tuple(f"{text:>{width}}" for text, width in zip(line, widths, strict=True))
            for line in lines
        ]
    )


def _print_when_it_pays(result: dict[str, Any]) -> None:
    workers = result["workers"]
    for key, what in (
        ("efficient_from", f"have an efficiency of at least {HALF:.0%}"),
        ("faster_from", "are faster than one"),
    ):
        batch_size = result[key]
        when = f"batches of {batch_size:,} on" if batch_size else "no batch size that was tried"
        print(f"{workers:,} workers {what} from {when}")
    print("(the smallest multiples of the shards for which the model says so)")
