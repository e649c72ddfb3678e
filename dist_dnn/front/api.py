"""The Python interface: ``train``."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dist_dnn.errors import InputError, RunError
from dist_dnn.front.progress import make_progress
from dist_dnn.hyperparameters import Hyperparameters
from dist_dnn.model import Model
from dist_dnn.preparation import prepare
from dist_dnn.tracking import RunDirectory, check_new
from dist_dnn.trainer import Trainer

if TYPE_CHECKING:
    from workers.group import WorkerGroup


@dataclass(frozen=True)
class Run:
    """A completed training.

    Attributes:
        history: the metrics of each epoch, as in metrics.jsonl.
        model: what was learned.
        out: the run directory, if there is one.
    """

    history: list[dict[str, Any]]
    model: Model
    out: Path | None

    @property
    def digest(self) -> str:
        """SHA-256 of the parameters."""
        return self.model.digest


def train(
    data: Any,
    target: str,
    hyperparameters: Hyperparameters | Mapping[str, Any] | None = None,
    *,
    workers: int = 2,
    backend: str = "local",
    out: str | Path | None = None,
    validation: Any = None,
    progress: str = "none",
    allow_mixed_cpus: bool = False,
) -> Run:
    """Train a network; neither ``workers`` nor ``backend`` changes a bit of the result.

    Args:
        data: a file, a folder of files, a URI, or a pyarrow Table or Dataset.
        target: the column to predict.
        hyperparameters: the experiment, as Hyperparameters or a mapping of their names.
        workers: how many; 0 computes in this process.
        backend: "local".
        out: the run directory to make, if any.
        validation: other rows, like ``data``, instead of the hyperparameters' ``validation``.
        progress: "none", "auto", "bar" or "lines", on standard error.
        allow_mixed_cpus: go on where workers' arithmetic differs.

    Raises:
        InputError: something given cannot be used.
        RunError: the training failed.
    """
    launch = import_launch()
    if hyperparameters is None:
        hyperparameters = Hyperparameters()
    elif not isinstance(hyperparameters, Hyperparameters):
        hyperparameters = Hyperparameters.from_mapping(hyperparameters, "hyperparameters")
    if isinstance(validation, float | int | str | Path):
        given = str(validation) if isinstance(validation, Path) else validation
        hyperparameters = replace(hyperparameters, validation=given)
        validation = None  # what is part of the experiment is written down with it
    if workers > hyperparameters.shards:
        raise InputError(
            f"{workers} workers are more than the {hyperparameters.shards} shards of the "
            f"experiment: use --workers {hyperparameters.shards}, or --shards {workers} "
            "(another experiment)"
        )
    settings = launch.Settings(backend, workers, allow_mixed_cpus)
    report = make_progress(progress)
    if out is not None:
        check_new(str(out))

    def drive(group: "WorkerGroup") -> Run:
        experiment = prepare(group, data, target, hyperparameters, validation)
        trainer = Trainer(group, experiment, hyperparameters)
        model = Model(
            experiment.network,
            trainer.parameters,
            experiment.features,
            experiment.target,
            hyperparameters.shards,
        )
        history = []
        with RunDirectory(str(out), asdict(settings)) if out else nullcontext() as run:
            if run:
                run.begin(target, hyperparameters, model)
            for metrics in trainer.epochs(hyperparameters.epochs, report):
                history.append(metrics)
                if run:
                    run.epoch(metrics, model)
        return Run(history, model.detached(), Path(out) if out else None)

    run: Run = launch.run(settings, hyperparameters.shards, drive)
    return run


def import_launch() -> Any:
    """``workers.launch``, if the package ``workers`` that Python finds is the one beside ours.

    Raises:
        RunError: it is another one of that name.
    """
    import workers

    ours = Path(__file__).resolve().parents[2] / "workers"
    places = getattr(workers, "__path__", None) or [workers.__file__]
    found = [Path(place).resolve() for place in places]
    if found != [ours]:
        raise RunError(
            f"the package 'workers' that Python finds is {found[0]}, not {ours} of dist_dnn: "
            "rename it, or start from another folder"
        )
    from workers import launch

    return launch
