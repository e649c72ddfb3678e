"""Where the files of a run are: by one set of operations, whatever holds them."""

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

from dist_dnn.data.sources import is_uri
from dist_dnn.errors import InputError
from dist_dnn.files import (
    append_line,
    atomically,
    beside,
    is_locked,
    locked,
    remove_orphan,
    remove_unfinished,
    rename_folder,
)

CHECKPOINTS = "checkpoints"
"""The one folder inside a run's, and what the names of the files in it begin with."""


class Unsound(ValueError):
    """A file that is not what it should be; says why."""


class Listing(NamedTuple):
    """The names of what is in a folder."""

    files: set[str]
    folders: list[str]


class Folder(ABC):
    """The files of one run, by names like ``status.json``; each is whole or not there.

    What is written or removed between two calls of ``commit`` belongs together.

    Attributes:
        location: what ``open_folder`` opens it by.
        name: what messages call it.
    """

    location: str | Path
    name: str

    def name_of(self, file: str) -> str:
        """What messages call a file of it."""
        return f"{self.name}/{file}"

    # A run that is begun, or gone on with

    @abstractmethod
    def is_there(self) -> bool:
        """Whether there is anything at this place that a new run must not replace."""

    @abstractmethod
    def check_new(self) -> None:
        """Raise InputError unless a run can be begun here."""

    @abstractmethod
    def made(self, stack: ExitStack) -> AbstractContextManager[None]:
        """A context to write the first files in; those who look see all of them or no run.

        Args:
            stack: until it ends, no other process can have the folder, where that can be.

        Raises:
            InputError: it cannot be made.
        """

    @abstractmethod
    def locked(self) -> AbstractContextManager[None]:
        """A context in which no other process can have the folder, where that can be.

        Raises:
            InputError: another one has it.
        """

    @abstractmethod
    def is_locked(self) -> bool | None:
        """Whether another process has the folder; None where that cannot be known."""

    # A folder that may hold runs

    @abstractmethod
    def listed(self) -> Listing:
        """What is in it, whether that belongs to a run or not; a link counts as a file.

        Raises:
            OSError: it is no folder, or cannot be read.
        """

    @abstractmethod
    def inner(self, name: str) -> "Folder":
        """The folder of that name in it."""

    # Reading

    @abstractmethod
    def has(self, file: str) -> bool:
        """Whether the run has this file."""

    @abstractmethod
    def files(self) -> list[str]:
        """The names of all its files.

        Raises:
            OSError: they cannot be listed.
        """

    @abstractmethod
    def checkpoints(self) -> list[str]:
        """The names of the files in its folder of checkpoints."""

    @abstractmethod
    def read(self, file: str) -> bytes:
        """What a file holds.

        Raises:
            OSError: it cannot be read.
        """

    @abstractmethod
    def fetched(self, file: str, *, compared: bool = False) -> AbstractContextManager[Path]:
        """A context in which a file of this machine holds what this file does.

        Args:
            compared: with what was noted of it when it was written, where that is done.

        Raises:
            Unsound: it is not there, or another one.
            InputError: it cannot be reached.
        """

    # Writing; all of it raises OSError, with the name of the file, where it cannot be done

    @abstractmethod
    def write(self, file: str, pieces: Iterable[bytes | memoryview]) -> None:
        """Write a file whole or not at all, in the place of an older one."""

    @abstractmethod
    def append(self, file: str, line: str) -> None:
        """Append a line to a file, whole or not at all."""

    @abstractmethod
    def remove(self, file: str) -> None:
        """Remove a file, if it is there."""

    @abstractmethod
    def commit(self) -> None:
        """Have what was written and removed count as the run."""

    @abstractmethod
    def remove_unfinished(self) -> None:
        """Remove what was being written when a process, or a thread, was ended."""

    @abstractmethod
    def remove_unnamed(self) -> None:
        """Remove what never came to belong to the run, or does so no more."""


class LocalFolder(Folder):
    """A folder of this machine's file system, where every file counts at once.

    Args:
        flag: what a command is given its path by.
    """

    def __init__(self, path: Path, flag: str = "--out") -> None:
        self._flag = flag
        self.location = self.path = path
        self.name = str(path)
        self._place = path  # where it is written, which is another one while it is made

    def is_there(self) -> bool:
        return os.path.lexists(self.path)

    def check_new(self) -> None:
        if self.is_there():
            raise already_there(self.name)
        parent = next(each for each in self.path.absolute().parents if os.path.lexists(each))
        if not os.path.isdir(parent):
            raise cannot_make(self.name, f"{parent} is a file, not a folder", self._flag)
        if not os.access(parent, os.W_OK | os.X_OK):
            raise cannot_make(self.name, f"{parent} is not writable", self._flag)

    @contextmanager
    def made(self, stack: ExitStack) -> Iterator[None]:
        remove_orphan(self.path)
        made = beside(self.path)
        try:
            with self._making():
                (made / CHECKPOINTS).mkdir(parents=True)
                stack.enter_context(locked(made))
            self._place = made
            yield
            if self.is_there():  # renaming would take the place of an empty folder
                raise cannot_make(self.name, "it exists by now", self._flag)
            with self._making():
                rename_folder(made, self.path)
        finally:
            self._place = self.path
            shutil.rmtree(made, ignore_errors=True)

    @contextmanager
    def _making(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise cannot_make(self.name, error.strerror or str(error), self._flag) from error

    def locked(self) -> AbstractContextManager[None]:
        return locked(self.path) if self.path.is_dir() else nullcontext()

    def is_locked(self) -> bool | None:
        return is_locked(self.path)

    def listed(self) -> Listing:
        with os.scandir(self.path) as entries:
            kinds = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
        return Listing(
            {name for name, is_folder in kinds.items() if not is_folder},
            [name for name, is_folder in kinds.items() if is_folder],
        )

    def inner(self, name: str) -> "Folder":
        return LocalFolder(self.path / name)

    def has(self, file: str) -> bool:
        return os.path.isfile(self.path / file)

    def files(self) -> list[str]:
        found = [path for path in self.path.iterdir() if path.is_file()]
        names = [path.name for path in found if not path.name.startswith(".")]
        return sorted([*names, *self.checkpoints()])

    def checkpoints(self) -> list[str]:
        found = (self.path / CHECKPOINTS).glob("*")
        return [f"{CHECKPOINTS}/{path.name}" for path in found if path.is_file()]

    def read(self, file: str) -> bytes:
        return (self.path / file).read_bytes()

    def fetched(self, file: str, *, compared: bool = False) -> AbstractContextManager[Path]:
        return nullcontext(self.path / file)

    def write(self, file: str, pieces: Iterable[bytes | memoryview]) -> None:
        with self._naming(file), atomically(self._place / file) as made, made.open("wb") as opened:
            for piece in pieces:
                opened.write(piece)

    def append(self, file: str, line: str) -> None:
        with self._naming(file):
            append_line(self.path / file, line)

    def remove(self, file: str) -> None:
        with self._naming(file):
            (self.path / file).unlink(missing_ok=True)

    @contextmanager
    def _naming(self, file: str) -> Iterator[None]:
        """See that an error tells the name that the file is to have."""
        try:
            yield
        except OSError as error:
            error.filename = self.name_of(file)
            raise

    def commit(self) -> None:
        pass

    def remove_unfinished(self) -> None:
        for folder in (self.path, self.path / CHECKPOINTS):
            remove_unfinished(folder)

    def remove_unnamed(self) -> None:
        pass


def open_folder(location: str | Path) -> Folder:
    """The folder of a run, by a path, or by a URI that ``pyarrow.fs`` opens.

    Raises:
        InputError: the URI cannot be opened.
    """
    if not is_uri(str(location)):
        return LocalFolder(Path(location))
    from dist_dnn.data.store import open_uri

    return open_uri(str(location))


def already_there(name: str) -> InputError:
    """A new run cannot be where something is."""
    return InputError(
        f"{name} exists: choose another --out, move it away, or go on with it by --resume"
    )


def cannot_make(name: str, reason: str, flag: str = "--out") -> InputError:
    """A run cannot be begun at a place."""
    return InputError(f"{name} cannot be made: {reason}; choose another {flag}")
