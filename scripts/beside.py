"""Our steps beside our steps: on another backend, by more workers, or with another optimiser."""

from dataclasses import replace

from comparisons import Estimate, ratio, take_turns
from own_steps import OwnSteps, Workload

from dist_dnn.errors import InputError
from dist_dnn.rounds import Group
from workers import launch
from workers.group import Reach


def compare_beside(
    group: Group, what: str, settings: launch.Settings, workload: Workload, rounds: int
) -> dict[str, float]:
    """Let the steps of a group take turns with those of another one.

    Args:
        group: of ``settings``, with as many workers as they say.
        what: how the other one differs; see ``_otherwise``.

    Returns:
        The other one's median step, the ratio of the steps' times, and their difference.

    Raises:
        InputError: ``what`` is nothing to compare with.
    """
    others, another = _otherwise(what, settings, workload)

    def main(reach: Reach) -> dict[str, float]:
        with reach.group(another.hyperparameters.shards) as other:
            contenders = OwnSteps(workload.trainer(group)), OwnSteps(another.trainer(other))
            own, beside = take_turns(contenders, rounds)
        return _compared(own, beside)

    return launch.run(others, main) or {}


def _otherwise(
    what: str, settings: launch.Settings, workload: Workload
) -> tuple[launch.Settings, Workload]:
    """The settings and the workload but for one thing.

    Args:
        what: the name of a backend, ``workers=N`` or ``optimizer=NAME``.
    """
    name, equals, value = what.partition("=")
    if not equals:
        others = replace(settings, backend=what)
    elif name == "workers" and value.isdecimal():
        others = replace(settings, workers=int(value))
    elif name == "optimizer":
        others = settings
        hyperparameters = replace(workload.hyperparameters, optimizer=value)
        workload = replace(workload, hyperparameters=hyperparameters)
    else:
        raise InputError(f"--beside takes a backend, workers=N or optimizer=NAME, not {what!r}")
    return others, workload


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
