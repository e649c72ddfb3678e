"""Stores on this machine, and what is in them."""

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Thread

from moto.server import ThreadedMotoServer
from pyarrow.fs import FileSelector, FileSystem

_numbers = count()


def uri_at(port: int, path: str) -> str:
    """What opens a path of the store at a port."""
    return f"s3://key:secret@{path}?endpoint_override=http://127.0.0.1:{port}&scheme=http"


class Bucket:
    """A bucket of its own at a server.

    Attributes:
        name: of it.
        uri: of the run ``some/run`` in it.
        shown: the same as messages say it.
    """

    def __init__(self, port: int, name: str | None = None) -> None:
        self.name = name or f"bucket-{next(_numbers)}"
        self.uri = uri_at(port, f"{self.name}/some/run")
        self.shown = f"s3://{self.name}/some/run"
        self.filesystem, self.path = FileSystem.from_uri(f"{self.uri}&allow_bucket_creation=true")
        self.filesystem.create_dir(self.name)

    def files(self) -> dict[str, bytes]:
        """Everything in it, by names as the run's."""
        found = self.filesystem.get_file_info(FileSelector(self.name, recursive=True))
        return {
            each.path.removeprefix(f"{self.path}/"): self.read(each.path)
            for each in found
            if each.is_file
        }

    def read(self, path: str) -> bytes:
        with self.filesystem.open_input_file(path) as file:
            return bytes(file.read())

    def write(self, name: str, content: bytes) -> None:
        with self.filesystem.open_output_stream(f"{self.path}/{name}") as stream:
            stream.write(content)

    def remove(self, name: str) -> None:
        self.filesystem.delete_file(f"{self.path}/{name}")

    def run_in(self, folder: Path) -> Path:
        """The run as a folder; it has all that its manifest says, and the bucket nothing else."""
        files = self.files()
        manifest = json.loads(files.pop("manifest.json"))
        assert manifest["format"] == 1
        assert manifest["files"] == {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in files.items()
        }
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder


@contextmanager
def s3_server() -> Iterator[ThreadedMotoServer]:
    """A server of S3; all of a process have the same buckets."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class Quiet(BaseHTTPRequestHandler):
    """Answers, and says nothing on standard error."""

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def served(handler: type[Quiet]) -> Iterator[int]:
    """The port of a server that answers as the handler does."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))  # it is asked to end so often
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def refusing(methods: tuple[str, ...]) -> Iterator[int]:
    """The port of a server that has an empty bucket and forbids some methods."""

    class Handler(Quiet):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, content = 404, b""
            if self.command in methods:
                status = 403
                content = (
                    b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
                )
            elif self.path.count("/") == 1:
                status, content = 200, b"<ListBucketResult></ListBucketResult>"
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_HEAD = do_GET = do_PUT = do_POST = do_DELETE = answer

    with served(Handler) as port:
        yield port
