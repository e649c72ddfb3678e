"""Our steps beside our steps: on another backend, by more workers, or with another optimiser."""

from dataclasses import replace

from comparisons import Estimate, ratio, take_turns
from own_steps import OwnSteps, Workload

from dist_dnn.errors import InputError
from dist_dnn.rounds import Group
from workers import launch
from workers.group import Reach


def otherwise(
    what: str, settings: launch.Settings, workload: Workload
) -> tuple[launch.Settings, Workload]:
    """Settings and a workload that are these but for one thing.

    Args:
        what: the name of a backend, ``workers=N`` or ``optimizer=NAME``.

    Raises:
        InputError: that is nothing to compare with.
    """
    name, equals, value = what.partition("=")
    if not equals:
        settings = replace(settings, backend=what)
    elif name == "workers" and value.isdecimal():
        settings = replace(settings, workers=int(value))
    elif name == "optimizer":
        hyperparameters = replace(workload.hyperparameters, optimizer=value)
        workload = replace(workload, hyperparameters=hyperparameters)
    else:
        raise InputError(f"--beside takes a backend, workers=N or optimizer=NAME, not {what!r}")
    if settings.backend == "mpi":
        raise InputError(
            "--beside has no ranks of MPI to start: give --backend mpi, and what takes turns with "
            "it as --beside"
        )
    return settings, workload


def compare_beside(
    group: Group,
    workers: int,
    workload: Workload,
    settings: launch.Settings,
    another: Workload,
    rounds: int,
) -> dict[str, float]:
    """Let the steps of a group take turns with those of another one.

    Args:
        workers: how many the group has, and the other one, too, where its settings do not say.
        workload: the group's.
        settings, another: what the other group is, and its workload.

    Returns:
        The other one's median step, the ratio of the steps' times, and their difference.
    """
    if settings.workers is None:
        settings = replace(settings, workers=workers)

    def main(reach: Reach) -> dict[str, float]:
        with reach.group(another.hyperparameters.shards) as other:
            contenders = OwnSteps(workload.trainer(group)), OwnSteps(another.trainer(other))
            own, beside = take_turns(contenders, rounds)
        return _compared(own, beside)

    return launch.run(settings, main) or {}


def _compared(own: list[float], beside: list[float]) -> dict[str, float]:
    times = ratio(own, beside)
    more = Estimate.of([a - b for a, b in zip(own, beside, strict=True)])
    return {
        "beside_step_ms_median": 1e3 * Estimate.of(beside).median,
        "ratio_to_beside": times.median,
        "ratio_to_beside_low": times.low,
        "ratio_to_beside_high": times.high,
        "ms_more_than_beside": 1e3 * more.median,
    }
