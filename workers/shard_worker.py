"""The work of one worker on the shards it holds; the same class in every backend."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import pyarrow as pa

from dist_dnn.account import ACCOUNT, OTHER, WAITING
from dist_dnn.arithmetic import quiet_overflow
from dist_dnn.data.dataset import Dataset
from dist_dnn.errors import InputError, RunError
from dist_dnn.rounds import Exchange, Options, Task, Vectors
from dist_dnn.shards import Additions

Failure = dict[str, str]
"""An error as it travels: its kind, "input" or "run", and what it says."""


def task_name(task: type[Task]) -> str:
    """What ``task_class`` finds the task's class by, in another process."""
    return f"{task.__module__}:{task.__qualname__}"


def task_class(name: str) -> type[Task]:
    """The class of that name.

    Raises:
        TypeError: the name is that of something else.
    """
    module, _, attribute = name.partition(":")
    task = getattr(import_module(module), attribute)
    if not (isinstance(task, type) and issubclass(task, Task)):
        raise TypeError(f"{name} is no task")
    return task


class ShardWorker:
    """Computes the rounds of open tasks on the shards it holds.

    Args:
        held: the shards, ascending.
        shards: S.
        datasets: those that are loaded already, by name.
    """

    def __init__(
        self, held: tuple[int, ...], shards: int, datasets: dict[str, Dataset] | None = None
    ) -> None:
        self.held = held
        self.shards = shards
        self.datasets = {} if datasets is None else datasets
        self.tasks: dict[str, Task] = {}

    def load(self, name: str, description: Options, buffer: pa.Buffer | None) -> None:
        """Make a data set known; its rows are read when a task asks for a shard."""
        self.datasets[name] = Dataset.from_description(description, buffer)

    def open(self, name: str, options: Options, broadcast: Vectors, slots: Vectors) -> None:
        """Make the task of that name; one of the same name ends.

        Raises:
            InputError: bad data, with its column and row.
            RunError: anything else that went wrong, in one line.
        """
        task = task_class(name)
        exchange = Exchange(Additions(self.held, self.shards), broadcast, slots)
        self.tasks.pop(name, None)
        with one_line(task.__name__):
            self.tasks[name] = task(options, self.datasets, exchange)

    def run(self, name: str, position: tuple[int, ...]) -> None:
        """One round of an open task: leaves the sums of the complete subtrees in its slots.

        Raises:
            InputError: bad data, with its column and row.
            RunError: anything else that went wrong, in one line that names the shard.
        """
        task = self.tasks[name]
        ACCOUNT.lap(WAITING)
        try:
            task.run(position)
        except (InputError, RunError):
            raise
        except Exception as error:
            raise _in_one_line(type(task).__name__, error, task) from error
        ACCOUNT.lap(OTHER)


@contextmanager
def one_line(what: str, task: Task | None = None) -> Iterator[None]:
    """Turn an exception that is nobody's message into one line about what was done."""
    try:
        with quiet_overflow():
            yield
    except (InputError, RunError):
        raise
    except Exception as error:
        raise _in_one_line(what, error, task) from error


def _in_one_line(what: str, error: Exception, task: Task | None = None) -> RunError:
    shard = f", shard {task.shard}" if task is not None else ""
    return RunError(f"{what}{shard}: {described(error)}")


@contextmanager
def failures() -> Iterator[dict[str, Failure]]:
    """A context that keeps an error of ours as it travels, under "error"."""
    failed: dict[str, Failure] = {}
    try:
        with one_line("the worker"):
            yield failed
    except (InputError, RunError) as error:
        failed["error"] = failure_of(error)


def failure_of(error: InputError | RunError) -> Failure:
    """An error as it travels."""
    return {"kind": "input" if isinstance(error, InputError) else "run", "error": str(error)}


def error_of(failure: Failure) -> InputError | RunError:
    """An error that has travelled."""
    kind = InputError if failure["kind"] == "input" else RunError
    return kind(failure["error"])


def seen_dataset(description: Options, buffer: pa.Buffer | None, here: str) -> Dataset:
    """A data set, as a worker has it described.

    Args:
        here: this machine, as messages name it.

    Raises:
        InputError: one of its files cannot be seen from here.
    """
    dataset = Dataset.from_description(description, buffer)
    unseen = dataset.source.unseen()
    if unseen is not None:
        raise InputError(
            f"{here} cannot see {unseen}: put the data where every node can read it, or give a URI"
        )
    return dataset


def described(error: Exception) -> str:
    """The type of an exception and what it says, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
