"""The files of a run as objects of a store, which are the run once a manifest names them."""

import errno
import hashlib
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any
from urllib.parse import quote

from dist_dnn.data.sources import UNREADABLE, filesystem_of, location_name, reason_of
from dist_dnn.errors import InputError
from dist_dnn.storage import (
    CHECKPOINTS,
    Folder,
    Listing,
    LocalFolder,
    Unsound,
    already_there,
    cannot_make,
)

MANIFEST = "manifest.json"
FORMAT = 1
"""The version of what the manifest says."""


def open_uri(uri: str) -> Folder:
    """The folder of a run.

    Raises:
        InputError: the URI cannot be opened.
    """
    name = location_name(uri)
    try:
        filesystem, path = filesystem_of(uri)
    except UNREADABLE as error:
        raise InputError(
            f"{name} cannot be opened: {reason_of(error, uri)}; give a path, or a URI that "
            f"pyarrow.fs opens"
        ) from None
    if not path.strip("/"):
        raise InputError(f"{name} says nothing after the scheme; give the bucket and the path too")
    if filesystem.type_name == "local":
        return LocalFolder(Path(path))
    return StoreFolder(filesystem, path.rstrip("/"), uri)


class StoreFolder(Folder):
    """Objects below a prefix.

    An object appears whole, but there is no renaming, and no lock: the manifest, which is written
    last, makes a group of objects the run's. Those that it no longer names are deleted afterwards.
    """

    def __init__(self, filesystem: Any, path: str, uri: str) -> None:
        self.location = uri
        self.name = location_name(uri)
        self._filesystem = filesystem
        self._path = path
        self._removed: set[str] = set()
        self._committing = Lock()

    @cached_property
    def _files(self) -> dict[str, dict[str, Any]]:
        """The size and the checksum of each file of the run; nothing where there is none."""
        return self._read_manifest()

    def _read_manifest(self) -> dict[str, dict[str, Any]]:
        try:
            content = self._get(MANIFEST)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._unreachable(error) from None
        try:
            manifest = json.loads(content)
            if manifest["format"] != FORMAT:
                raise ValueError(f"it is not of format {FORMAT}, which this version reads")
            return {
                file: {"bytes": each["bytes"], "sha256": each["sha256"]}
                for file, each in manifest["files"].items()
            }
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise InputError(
                f"{self.name_of(MANIFEST)} is no manifest of dist_dnn: {error!r}; put it back as "
                f"the run wrote it"
            ) from None

    def _unreachable(self, error: OSError) -> InputError:
        return InputError(
            f"{error.filename} cannot be read: {error.strerror}; check the URI, what its user may "
            f"do, and the network"
        )

    def is_there(self) -> bool:
        return bool(self._files)

    def check_new(self) -> None:
        if self.is_there():
            raise already_there(self.name)
        bucket = self._path.partition("/")[0]
        if bucket and not self._exists(bucket):  # Hadoop's paths begin with a slash
            raise cannot_make(self.name, f"there is no bucket {bucket}")

    def _exists(self, bucket: str) -> bool:
        from pyarrow.fs import FileType

        try:
            with self._failing(""):
                [found] = self._filesystem.get_file_info([bucket])
        except OSError as error:
            raise self._unreachable(error) from None
        return bool(found.type != FileType.NotFound)

    @contextmanager
    def made(self, stack: ExitStack) -> Iterator[None]:
        if self._read_manifest():
            raise cannot_make(self.name, "it exists by now")
        try:
            yield
        except OSError as error:
            raise cannot_make(self.name, error.strerror or str(error)) from error

    def locked(self) -> AbstractContextManager[None]:
        return nullcontext()

    def is_locked(self) -> bool | None:
        return None

    def listed(self) -> Listing:
        from pyarrow.fs import FileSelector, FileType

        with self._failing(""):
            found = self._filesystem.get_file_info(FileSelector(self._path))
        files = {each.base_name for each in found if each.type == FileType.File}
        return Listing(files, [each.base_name for each in found if each.type == FileType.Directory])

    def inner(self, name: str) -> Folder:
        before, mark, after = str(self.location).partition("?")
        uri = f"{before.rstrip('/')}/{quote(name)}{mark}{after}"
        return StoreFolder(self._filesystem, f"{self._path}/{name}", uri)

    def has(self, file: str) -> bool:
        return file in self._files

    def files(self) -> list[str]:
        return sorted(self._files)

    def checkpoints(self) -> list[str]:
        return [file for file in self._files if file.startswith(f"{CHECKPOINTS}/")]

    def read(self, file: str) -> bytes:
        return self._get(file)

    @contextmanager
    def fetched(self, file: str, *, compared: bool = False) -> Iterator[Path]:
        try:
            content = self._get(file)
        except FileNotFoundError:
            raise Unsound(f"it is not there, though {MANIFEST} names it") from None
        except OSError as error:
            raise self._unreachable(error) from None
        if compared and _described([content]) != self._files[file]:
            raise Unsound(
                f"it is not the file that {MANIFEST} names (if the run was ended while it was "
                f"written, --resume puts that right)"
            )
        with TemporaryDirectory(prefix="dist_dnn-") as folder:
            path = Path(folder, "fetched")
            path.write_bytes(content)
            yield path

    def write(self, file: str, pieces: Iterable[bytes | memoryview]) -> None:
        whole = list(pieces)
        self._put(file, whole)
        self._files[file] = _described(whole)
        self._removed.discard(file)

    def append(self, file: str, line: str) -> None:
        self.write(file, [self._get(file), f"{line}\n".encode()])

    def remove(self, file: str) -> None:
        if self._files.pop(file, None) is not None:
            self._removed.add(file)

    def commit(self) -> None:
        with self._committing:  # a thread that is left behind may do so too
            manifest = {"format": FORMAT, "files": self._files.copy()}
            text = json.dumps(manifest, indent=2, sort_keys=True)
            self._put(MANIFEST, [f"{text}\n".encode()])
            for file in sorted(self._removed):
                self._delete(file)
                self._removed.discard(file)

    def remove_unfinished(self) -> None:
        pass  # what was being written is not there

    def remove_unnamed(self) -> None:
        from pyarrow.fs import FileSelector, FileType

        folder = FileSelector(f"{self._path}/{CHECKPOINTS}", allow_not_found=True)
        with self._failing(CHECKPOINTS):
            found = self._filesystem.get_file_info(folder)
        for each in found:
            file = f"{CHECKPOINTS}/{each.base_name}"
            if each.type == FileType.File and not self.has(file):
                self._delete(file)

    # Objects

    def _get(self, file: str) -> bytes:
        with self._failing(file), self._filesystem.open_input_file(f"{self._path}/{file}") as read:
            content: bytes = read.read()
            return content

    def _put(self, file: str, pieces: list[bytes | memoryview]) -> None:
        # A stream that is left in the middle makes an object of what it was given. A signal
        # raises in the main thread alone, so another one writes.
        with self._failing(file), ThreadPoolExecutor(1) as thread:
            thread.submit(self._upload, f"{self._path}/{file}", pieces).result()

    def _upload(self, path: str, pieces: list[bytes | memoryview]) -> None:
        with self._filesystem.open_output_stream(path) as stream:
            for piece in pieces:
                stream.write(piece)

    def _delete(self, file: str) -> None:
        with suppress(FileNotFoundError), self._failing(file):
            self._filesystem.delete_file(f"{self._path}/{file}")

    @contextmanager
    def _failing(self, file: str) -> Iterator[None]:
        """Turn what pyarrow raises into an OSError with the name of the file and the reason."""
        try:
            yield
        except UNREADABLE as error:
            number = errno.ENOENT if isinstance(error, FileNotFoundError) else errno.EIO
            name = self.name_of(file) if file else self.name
            raise OSError(number, reason_of(error, str(self.location)), name) from error


def _described(pieces: list[bytes | memoryview]) -> dict[str, Any]:
    """What the manifest says of a file of this content."""
    digest, size = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        size += memoryview(piece).nbytes
    return {"bytes": size, "sha256": digest.hexdigest()}
