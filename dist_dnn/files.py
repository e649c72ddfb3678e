"""Files that are whole or not there, and the one process that may write them."""

import errno
import fcntl
import glob
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import get_native_id

from dist_dnn.errors import InputError


def beside(path: Path) -> Path:
    """Where this thread makes a file or folder before it gets its name; says by which process."""
    return path.with_name(f".{path.name}.{socket.gethostname()}.{get_native_id()}.{os.getpid()}")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: beside it first, then on the disk, then renamed.

    Raises:
        OSError: it cannot be written.
    """
    made = beside(path)
    try:
        with made.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        made.replace(path)
        sync_folder(path.parent)
    finally:
        made.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Append a line whole or not at all, as far as this process lives.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("ab", buffering=0) as file:
        size = file.tell()
        try:
            data = f"{line}\n".encode()
            if file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            file.truncate(size)
            raise


def sync_folder(folder: Path) -> None:
    """See that what was renamed in a folder is on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # not every file system can
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove what this process, and those of this machine that are gone, were about to write.

    Args:
        folder: where.
        name: of the file or folder that it was to be; None: any.
    """
    start = "." if name is None else f".{glob.escape(name)}."
    for path in folder.glob(f"{start}*{glob.escape(socket.gethostname())}.*"):
        number = re.fullmatch(r".*\.(\d+)", path.name)
        if number is None or _is_alive(int(number[1])):
            continue
        with suppress(OSError):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _is_alive(process: int) -> bool:
    if process == os.getpid():
        return False  # it may be an earlier one with the same number
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """A context in which no other process can have the same folder; ends with the process, too.

    Raises:
        InputError: another one has it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{folder} is being written by another process: wait until it ends, or stop it"
            ) from None
        except OSError:
            pass  # not every file system has locks
        yield
    finally:
        os.close(descriptor)
