"""What the command train does, and how a command reaches its workers."""

import sys
from typing import Any

from dist_dnn.data.sources import location_name
from dist_dnn.front.api import import_launch, run_name, train
from dist_dnn.front.profiling import print_profile
from dist_dnn.front.scores import summary
from dist_dnn.hyperparameters import Hyperparameters, read_toml
from dist_dnn.target_names import target_names


def train_command(chosen: Any, given: dict[str, Any]) -> None:
    """Train, and say on standard error what came of it and what to do next.

    Args:
        chosen: the command line.
        given: the hyperparameters that flags name.
    """
    targets, values = read_experiment(chosen.config, chosen.target, given, chosen.resume)
    run = train(
        chosen.data,
        targets,
        values,
        workers=chosen.workers,
        backend=chosen.backend,
        out=chosen.out,
        progress=chosen.progress,
        resume=chosen.resume,
        checkpoint_every=chosen.checkpoint_every,
        keep=chosen.keep,
        max_failures=chosen.max_failures,
        step_timeout=chosen.step_timeout,
        allow_mixed_cpus=chosen.allow_mixed_cpus,
        address=chosen.address,
        cpus_per_worker=chosen.cpus_per_worker,
        start_timeout=chosen.start_timeout,
        metrics_port=chosen.metrics_port,
    )
    if chosen.profile and run.profile:
        print_profile(run.profile)
    if chosen.progress != "none" and run.test:
        print(f"test: {summary(run.test)}", file=sys.stderr)
    if chosen.progress != "none" and run.digest is not None:
        out = location_name(chosen.out)
        next_command = f"dist-dnn evaluate {out} DATA"
        print(f"digest {run.digest}\nmodel in {out}; next: {next_command}", file=sys.stderr)


def read_experiment(
    config: str | None,
    target: tuple[str, ...] | None,
    given: dict[str, Any],
    resume: bool | str = False,
) -> tuple[tuple[str, ...] | None, dict[str, Any]]:
    """The targets and the hyperparameters: the file's, which must be good by itself, then flags'.

    Where a run is resumed, they need only be good together with its own.

    Raises:
        InputError: a value that cannot be used, with where it stands.
    """
    values: dict[str, Any] = {}
    targets: tuple[str, ...] | None = None
    if config is not None:
        values = read_toml(config)
        in_file = values.pop("target", None)
        targets = None if in_file is None else target_names(in_file, f"{config}: ")
        Hyperparameters.from_mapping(values, config)
    if not resume:
        where = f"{config} with the command line" if config else "the command line"
        Hyperparameters.from_mapping(values | given, where)
    if target is not None:
        targets = target_names(target)
    return targets, values | given


def reach_of(chosen: Any) -> Any:
    """How the workers are reached, as the command line has it."""
    return import_launch().Settings(
        chosen.backend,
        chosen.workers,
        chosen.allow_mixed_cpus,
        address=chosen.address,
        cpus_per_worker=chosen.cpus_per_worker,
        start_timeout=chosen.start_timeout,
        name=run_name(getattr(chosen, "run", "check")),
        default_workers=chosen.default_workers,
    )
