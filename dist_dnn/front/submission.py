"""What a job is to do: the arguments of ``train``, checked before anything is submitted."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tomli_w

from dist_dnn import __version__
from dist_dnn.data.sources import is_uri, location_name, without_password
from dist_dnn.errors import InputError
from dist_dnn.front.api import check_keep, import_launch, no_target, run_name
from dist_dnn.front.commands import reach_of, read_experiment
from dist_dnn.front.job import check_outlives, is_absolute
from dist_dnn.front.train_command import parse_train
from dist_dnn.hyperparameters import Hyperparameters, parse_toml
from dist_dnn.recorder import Every

KEY = "dist_dnn"
"""The name, in a job's metadata, of what ``Submission.to_json`` gives."""

CONFIG_FILE = "config.toml"
"""The name that the file of --config has in a job."""


@dataclass(frozen=True)
class Submission:
    """One training as a job.

    Attributes:
        arguments: of ``train``.
        out: the run.
        config: what the file of --config holds, which travels along.
        version: of the package that submitted it.
        pins: what that needs, in versions that compute the same bits; empty before it is submitted.
    """

    arguments: tuple[str, ...]
    out: str
    config: str | None = None
    version: str = __version__
    pins: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """What the job's shell runs."""
        return shlex.join(["python", "-m", "dist_dnn", "train", *self.arguments])

    @property
    def run(self) -> str:
        """What two jobs have in common that write the same run, whatever their passwords are."""
        return without_password(self.out).rstrip("/")

    @property
    def shown(self) -> list[str]:
        """The arguments without the passwords in URIs."""
        return [_shown(argument) for argument in self.arguments]

    def hidden(self, text: str) -> str:
        """A text in which the job's arguments may stand, without those passwords."""
        for argument, shown in zip(self.arguments, self.shown, strict=True):
            if argument != shown:
                text = text.replace(argument, shown)
        return text

    @property
    def name(self) -> str:
        """What the job's name begins with."""
        return re.sub(r"[^A-Za-z0-9_-]+", "-", run_name(self.out))[:40].strip("-") or "run"

    def resumed(self, **changes: int | None) -> "Submission":
        """The job that goes on with the run of this one, or begins it where this one had not.

        Args:
            changes: flags of ``train`` with other values; those that are None stay.

        Raises:
            InputError: not with these.
        """
        arguments = list(self.arguments)
        for name, value in changes.items():
            if value is not None:
                arguments = [f"--{name}={value}", *_without(arguments, f"--{name}")]
        with TemporaryDirectory(prefix="dist_dnn-") as folder:
            self.write_config(Path(folder))
            here = arguments
            if self.config is not None:
                here = _with_config(arguments, str(Path(folder, CONFIG_FILE)))
            _checked(here)
        arguments = ["--resume=auto", *_without(arguments, "--resume", takes_value=False)]
        return replace(self, arguments=tuple(arguments), version=__version__)

    def write_config(self, folder: Path) -> None:
        """Write the file of --config, if there is one, where the job will look for it."""
        if self.config is not None:
            Path(folder, CONFIG_FILE).write_text(self.config, encoding="utf-8")

    def to_json(self) -> str:
        """What the cluster keeps of it."""
        return json.dumps(vars(self))

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "Submission | None":
        """What a job's metadata say; None for a job of something else."""
        try:
            given = json.loads(metadata[KEY])
            arguments, out = given["arguments"], given["out"]
            config, version = given["config"], given["version"]
            pins = given.get("pins", [])  # earlier versions kept none
        except (KeyError, TypeError, ValueError):
            return None
        if not isinstance(arguments, list) or not isinstance(pins, list):
            return None
        if not all(isinstance(each, str) for each in (*arguments, out, version, *pins)):
            return None
        if not isinstance(config, str | None):
            return None
        return cls(tuple(arguments), out, config, version, tuple(pins))


def submission(command: Sequence[str]) -> Submission:
    """The job that is asked for as ``train DATA …``.

    Raises:
        InputError: it cannot be one, or the training would not begin.
    """
    if command[0] != "train":
        raise InputError(
            f"a job does not {command[0]!r}, it trains: give `-- train DATA …` after other flags"
        )
    arguments = list(command[1:])
    if not _has(arguments, "--backend"):
        arguments = ["--backend", "ray", *arguments]
    chosen = _checked(arguments)
    weights = getattr(chosen, "class_weight", None)
    if chosen.config is None and not isinstance(weights, dict):
        return Submission(tuple(arguments), chosen.out)
    config = "" if chosen.config is None else Path(chosen.config).read_text(encoding="utf-8")
    if isinstance(weights, dict):  # the job has no such file, but it has that of --config
        arguments = _without(arguments, "--class-weight")
        config = tomli_w.dumps({**parse_toml(config.encode(), "--config"), "class_weight": weights})
    return Submission(tuple(_with_config(arguments, CONFIG_FILE)), chosen.out, config)


def _checked(arguments: Sequence[str]) -> Any:
    """The command line of a training that can run as a job, as far as is known without its data.

    Raises:
        InputError: it cannot.
    """
    chosen, given = parse_train(arguments)
    targets, values = read_experiment(chosen.config, chosen.target, given, chosen.resume)
    _check_places(chosen, values)
    if chosen.backend != "ray":
        raise InputError(f"a job trains with --backend ray, not {chosen.backend}: leave that out")
    if chosen.address is not None:
        raise InputError(
            "a job joins the cluster that it runs on: give --address before the --, to submit it"
        )
    if chosen.metrics_port is not None:
        raise InputError(
            "a job has no --metrics-port: leave that out; its cluster exports the same gauges, as "
            "ray_dist_dnn_…"
        )
    _check_settings(chosen)
    if not chosen.resume:
        if targets is None:
            raise no_target()
        _check_workers(Hyperparameters.from_mapping(values, "hyperparameters").shards, chosen)
    return chosen


def _check_places(chosen: Any, values: Mapping[str, Any]) -> None:
    """Raise InputError where a path means nothing, or nothing that stays, to a job."""
    places = {"DATA": chosen.data}
    places |= {f"--{name}": values.get(name) for name in ("validation", "test")}
    for name, place in places.items():
        if isinstance(place, str) and not is_absolute(place):
            raise InputError(
                f"{name} {place} is relative, and a job has none of this machine's folders: give "
                f"an absolute path on storage that every node sees, or a URI (s3://…)"
            )
    check_outlives(chosen.out)


def _check_settings(chosen: Any) -> None:
    """Raise InputError where a flag that is none of the experiment's has no good value."""
    settings = replace(
        reach_of(chosen), max_failures=chosen.max_failures, step_timeout=chosen.step_timeout
    )
    import_launch().check(settings)
    Every.parse(chosen.checkpoint_every)
    check_keep(chosen.keep)
    if chosen.workers == 0:
        raise InputError("a job needs workers: give --workers 1 or more")


def _check_workers(shards: int, chosen: Any) -> None:
    from workers.group import WorkerGroup

    workers = chosen.default_workers if chosen.workers is None else chosen.workers
    WorkerGroup.check_workers(shards, workers)


def _has(arguments: Sequence[str], flag: str) -> bool:
    """Whether a flag is given."""
    flags = takewhile(lambda argument: argument != "--", arguments)
    return any(argument.partition("=")[0] == flag for argument in flags)


def _without(arguments: Sequence[str], flag: str, *, takes_value: bool = True) -> list[str]:
    """The arguments without a flag and its value."""
    kept: list[str] = []
    left = iter(arguments)
    for argument in left:
        if argument == "--":
            return [*kept, argument, *left]
        if argument == flag and takes_value:
            next(left)
        elif argument.partition("=")[0] != flag:
            kept.append(argument)
    return kept


def _with_config(arguments: Sequence[str], path: str) -> list[str]:
    """The arguments with another path for the file of --config."""
    return ["--config", path, *_without(arguments, "--config")]


def _shown(argument: str) -> str:
    flag, equals, value = argument.partition("=")
    if argument.startswith("-") and equals and is_uri(value):
        return f"{flag}={location_name(value)}"
    return location_name(argument) if is_uri(argument) else argument
