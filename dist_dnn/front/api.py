"""The Python interface: ``train``."""

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from dist_dnn import stopping
from dist_dnn.arithmetic import arithmetic, environment
from dist_dnn.checkpoint import Surroundings
from dist_dnn.errors import InputError, RunError
from dist_dnn.evaluation import Scores
from dist_dnn.front.explaining import remarks
from dist_dnn.front.job import check_kept, job_id
from dist_dnn.front.metrics_server import check_port, serving
from dist_dnn.front.progress import make_progress
from dist_dnn.gauges import Gauges
from dist_dnn.hyperparameters import Hyperparameters
from dist_dnn.liveness import own_process
from dist_dnn.model import Model
from dist_dnn.preparation import fingerprint, prepare
from dist_dnn.recorder import Every, Recorder
from dist_dnn.reporting import Progress, together
from dist_dnn.resuming import Begun, read_run
from dist_dnn.scoring import score
from dist_dnn.storage import Folder, open_folder
from dist_dnn.target_names import as_given, target_names
from dist_dnn.tracking import RunDirectory
from dist_dnn.trainer import TEST, Experiment, NoKeeper, Trainer

if TYPE_CHECKING:
    from workers.group import Reach, WorkerGroup


IN_STATUS = ("backend", "allow_mixed_cpus", "max_failures", "step_timeout")
"""The settings that ``status.json`` has."""


@dataclass(frozen=True)
class Run:
    """A completed training.

    Attributes:
        history: the metrics of each epoch, as in metrics.jsonl.
        model: what was learned; None on an MPI rank that only served.
        out: the run directory, if there is one; a URI where that was given.
        profile: where the time of the epochs of this call went, as ``status.json`` has it.
        test: the scores on the rows of the test, as ``evaluate`` gives them; empty without one.
    """

    history: list[dict[str, Any]]
    model: Model | None
    out: str | Path | None
    profile: dict[str, Any] = field(default_factory=dict)
    test: Scores = field(default_factory=dict)

    @property
    def digest(self) -> str | None:
        """SHA-256 of the parameters; None on an MPI rank that only served."""
        return None if self.model is None else self.model.digest


def train(
    data: Any,
    target: str | Sequence[str] | None = None,
    hyperparameters: Hyperparameters | Mapping[str, Any] | None = None,
    *,
    workers: int | None = None,
    backend: str = "local",
    out: str | Path | None = None,
    validation: Any = None,
    test: Any = None,
    progress: str = "none",
    resume: bool | str = False,
    checkpoint_every: int | str = "60s",
    keep: int = 3,
    max_failures: int = 3,
    step_timeout: float | None = None,
    allow_mixed_cpus: bool = False,
    address: str | None = None,
    cpus_per_worker: float = 1.0,
    start_timeout: float = 120.0,
    metrics_port: int | None = None,
) -> Run:
    """Train a network; neither ``workers`` nor ``backend`` changes a bit of the result.

    SIGINT, SIGTERM and SIGUSR1 end it between two steps, with a checkpoint, by
    ``stopping.Stopped``, which is a KeyboardInterrupt; a second one ends it at once.

    Args:
        data: a file, a folder of files, a URI, or a pyarrow Table or Dataset.
        target: the column to predict, or a list of several, for regression on all of them; a run
            that is resumed knows it.
        hyperparameters: the experiment, as Hyperparameters or a mapping of their names; a run that
            is resumed knows it, and only ``epochs`` may be others.
        workers: how many; 0 computes in this process; None: 2, or all the ranks of MPI.
        backend: "local", "ray" or "mpi".
        out: the run directory to make, if any, or to go on in: a path, or a URI that
            ``pyarrow.fs`` opens.
        validation: other rows, like ``data``, instead of the hyperparameters' ``validation``.
        test: rows that training never sees, scored once when it has ended; instead of the
            hyperparameters' ``test``.
        progress: "none", "auto", "bar" or "lines", on standard error.
        resume: True goes on with the run in ``out``; "auto" does so where there is one.
        checkpoint_every: steps, or seconds like "30s", between checkpoints within an epoch.
        keep: how many of the newest checkpoints stay, beside the best by validation.
        max_failures: how often workers may be lost in one step.
        step_timeout: the seconds after which a silent worker is taken for lost, unless the steps
            before took a good part of that; None: 30.
        allow_mixed_cpus: go on where workers' arithmetic differs.
        address: HOST:PORT of the Ray cluster to join, or "auto"; None: that of RAY_ADDRESS, or
            else a private Ray on this machine, which ends with the training. Where Ray is
            initialised already, that is used.
        cpus_per_worker: what Ray reserves for each worker.
        start_timeout: the seconds in which Ray must have room for the workers and start them, or
            all ranks of MPI must start.
        metrics_port: where the driver serves its gauges to Prometheus, on 127.0.0.1; 0 for a free
            port, which is said on standard error; None: nowhere.

    Raises:
        InputError: something given cannot be used.
        RunError: the training failed.
    """
    launch = import_launch()
    targets = None if target is None else target_names(target)
    settings = launch.Settings(
        backend,
        workers,
        allow_mixed_cpus,
        max_failures,
        step_timeout,
        address,
        cpus_per_worker,
        start_timeout,
        name=run_name(out),
    )
    every = Every.parse(checkpoint_every)
    check_keep(keep)
    if metrics_port is not None:
        check_port(metrics_port)
    report = make_progress(progress)
    if out is not None:
        check_kept(out)
    if resume not in (True, False, "auto"):
        raise InputError(f"resume must be True, False or 'auto', not {resume!r}")

    # Before any process can have begun it: the run of one that is lost is gone on with, no other.
    was_there = backend == "mpi" and out is not None and open_folder(out).is_there()

    def main(reach: "Reach") -> Run:
        folder = None if out is None else open_folder(out)
        directory = None if folder is None else _Directory(folder, every, keep)
        goes_on = resume
        if reach.takes_over and folder is not None and (resume or not was_there):
            goes_on = "auto"
        chosen, validated = _with_rows(hyperparameters, "validation", validation)
        chosen, tested = _with_rows(chosen, "test", test)
        given = _Given(data, targets, chosen, validated, tested, goes_on)
        with stopping.handled(), ExitStack() as stack:
            stack.callback(report.close)
            reports = [report]
            if metrics_port is not None:
                gauges = Gauges()
                stack.enter_context(serving(gauges, settings.name, metrics_port))
                reports.append(gauges)
            return _train(reach, given, settings, directory, reports, stack)

    run: Run | None = launch.run(settings, main)
    return Run([], None, None) if run is None else run


def check_keep(keep: object) -> None:
    """Raise InputError unless so many checkpoints can be kept."""
    if type(keep) is not int or keep < 1:
        raise InputError(f"keep must be a whole number above 0, not {keep!r}")


class _Given(NamedTuple):
    """What a call of ``train`` is given of the experiment."""

    data: Any
    targets: tuple[str, ...] | None
    hyperparameters: Hyperparameters | Mapping[str, Any]
    validation: Any
    test: Any
    resume: bool | str


class _Directory(NamedTuple):
    """Where a run directory is to be, and how its checkpoints are kept."""

    folder: Folder
    every: Every
    keep: int


def _train(
    reach: "Reach",
    given: _Given,
    settings: Any,
    directory: _Directory | None,
    reports: list[Progress],
    stack: ExitStack,
) -> Run:
    """Begin a run, or go on with one, in the process that drives."""
    folder = None if directory is None else directory.folder
    begun = _begun(folder, given.resume, stack)
    if begun is None:
        targets, chosen = _new_experiment(given.targets, given.hyperparameters, folder)
    else:
        targets, chosen = begun.targets, begun.go_on_with(given.targets, given.hyperparameters)
        if begun.is_completed and chosen.epochs <= begun.hyperparameters.epochs:
            return _completed(begun, given.resume)
        begun.check_epochs(chosen.epochs)
    session = _Session(given.data, targets, chosen, given.validation, given.test, settings, begun)
    with reach.group(chosen.shards) as group:
        return session.drive(group, directory, together([*reports, *group.reports()]))


@dataclass(frozen=True)
class _Session:
    """One call of ``train``: what is trained, on what, how, and from where."""

    data: Any
    targets: tuple[str, ...]
    hyperparameters: Hyperparameters
    validation: Any
    test: Any
    settings: Any
    begun: Begun | None

    def drive(self, group: "WorkerGroup", directory: _Directory | None, report: Progress) -> Run:
        hyperparameters = self.hyperparameters
        experiment = prepare(
            group, self.data, self.targets, hyperparameters, self.validation, self.test
        )
        trainer = Trainer(group, experiment, hyperparameters)
        if self.begun is None and experiment.fit is not None:  # and no mistake in any rows
            report.begin(remarks(experiment.fit))
        model = experiment.model(trainer.parameters, hyperparameters.shards)
        epochs, state = hyperparameters.epochs, trainer.state
        if directory is None:
            with stopping.postponed():
                trainer.run(epochs, report, NoKeeper())
                tested = _tested(group, experiment, model)
            return Run(state.history, model.detached(), None, state.profile, tested)
        surroundings = self._surroundings(model, fingerprint(group, experiment))
        if self.begun is not None:
            mixed = self.settings.allow_mixed_cpus
            surroundings = self.begun.check_same(surroundings, state, mixed)
        folder, every, keep = directory
        status = {name: getattr(self.settings, name) for name in IN_STATUS}
        status |= {"workers": group.workers, "job": job_id(), "process": own_process()}
        status |= {"checkpoint_every": every.text, "m": experiment.m}
        run = RunDirectory(folder, model, surroundings, status, keep)
        with stopping.postponed(), ExitStack() as stack:
            if self.begun is None:
                run.begin(state, stack)
            else:
                state.restore(self.begun.checkpoint.state)
                run.go_on(state, self.begun.status)
                report.resume(state.step)
            with Recorder(run, state, every) as recorder:
                group.keep_in(str(folder.location))
                trainer.run(epochs, report, recorder)
                if tested := _tested(group, experiment, model):
                    recorder.tested(tested)
        return Run(state.history, model.detached(), folder.location, state.profile, tested)

    def _surroundings(self, model: Model, data: dict[str, Any]) -> Surroundings:
        experiment = {"target": as_given(self.targets), **self.hyperparameters.to_mapping()}
        return Surroundings(experiment, model.data_to_json(), data, environment(), arithmetic())


def _tested(group: "WorkerGroup", experiment: Experiment, model: Model) -> Scores:
    """The scores of what was learned on the rows of the test; empty without one."""
    if TEST not in experiment.origins:
        return {}
    stopping.check()
    scores = score(group, TEST, model)
    if not math.isfinite(scores["loss"]):
        raise RunError(f"the loss on the rows of the test is {scores['loss']}")
    return scores


def _begun(folder: Folder | None, resume: bool | str, stack: ExitStack) -> Begun | None:
    """The run to go on with, which no other process can have meanwhile; None for a new one."""
    if not resume or (resume == "auto" and folder is not None and not folder.is_there()):
        return None
    if folder is None:
        raise InputError("there is nothing to resume without a run directory: give it as --out")
    stack.enter_context(folder.locked())
    return read_run(folder)


def _completed(begun: Begun, resume: bool | str) -> Run:
    """A run of which nothing is left to do."""
    if resume != "auto":
        raise InputError(
            f"{begun.name} is complete, with all of its {begun.hyperparameters.epochs} epochs: "
            f"there is nothing to resume; give more --epochs to go on"
        )
    model, location = Model.load(begun.folder.location), begun.folder.location
    return Run(begun.history, model, location, test=begun.status.get("test", {}))


def _with_rows(
    given: Hyperparameters | Mapping[str, Any] | None, name: str, rows: Any
) -> tuple[Hyperparameters | Mapping[str, Any], Any]:
    """The hyperparameters with other rows that can be written down; or else the rows apart."""
    given = {} if given is None else given
    if not isinstance(rows, float | int | str | Path):
        return given, rows
    value: Any = str(rows) if isinstance(rows, Path) else rows
    if isinstance(given, Hyperparameters):
        return replace(given, **{name: value}), None
    return {**given, name: value}, None


def _new_experiment(
    targets: tuple[str, ...] | None,
    given: Hyperparameters | Mapping[str, Any],
    folder: Folder | None,
) -> tuple[tuple[str, ...], Hyperparameters]:
    """The targets and the hyperparameters of a run that is to be made."""
    if targets is None:
        raise no_target()
    if not isinstance(given, Hyperparameters):
        given = Hyperparameters.from_mapping(given, "hyperparameters")
    if folder is not None:
        folder.check_new()
    return targets, given


def no_target() -> InputError:
    """A run is begun without a column to predict."""
    return InputError("no target: say with --target COLUMN which column to predict")


def run_name(out: str | Path | None) -> str:
    """What a run is called where it is watched."""
    return "training" if out is None else PurePosixPath(urlsplit(str(out)).path).name or "training"


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
