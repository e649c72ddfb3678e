"""Commands of ``dist-dnn``: called in this process, which is quick, or in one of their own."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import pytest

from dist_dnn.front import cli

ROOT = Path(__file__).parents[1]
SECONDS = 120

Ended = tuple[int, str, str]
"""The exit status, standard output and standard error of a command."""


def run(*arguments: object, cwd: Path = ROOT) -> Ended:
    """Run a command in this process; what its workers write is in its standard error."""
    with ExitStack() as stack:
        files = [stack.enter_context(_written(name)) for name in ("stdout", "stderr")]
        stack.enter_context(chdir(cwd))
        try:
            status = cli.run([*map(str, arguments)])
        except SystemExit as end:  # of --help
            status = int(end.code or 0)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        stdout, stderr = (_content(file) for file in files)
    return status, stdout, stderr


@contextmanager
def _written(name: str) -> Iterator[BinaryIO]:
    """A file in the place of a standard stream of this process, and of those that it starts."""
    number = {"stdout": 1, "stderr": 2}[name]
    with TemporaryFile() as file, pytest.MonkeyPatch.context() as patch:
        before = os.dup(number)
        os.dup2(file.fileno(), number)
        try:
            with open(number, "w", encoding="utf-8", closefd=False) as stream:
                patch.setattr(sys, name, stream)
                yield file
        finally:
            os.dup2(before, number)
            os.close(before)


def _content(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode()


def start(
    *arguments: object, cwd: Path = ROOT, given: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start a command in a process of its own; what is given is added to its environment."""
    return subprocess.Popen(
        [sys.executable, "-m", "dist_dnn", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | (given or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_alone(
    *arguments: object, cwd: Path = ROOT, given: Mapping[str, str] | None = None
) -> Ended:
    """Run a command in a process of its own."""
    with start(*arguments, cwd=cwd, given=given) as process:
        stdout, stderr = process.communicate(timeout=SECONDS)
    return process.returncode, stdout, stderr


def printed(*arguments: object, cwd: Path = ROOT) -> str:
    """What a command prints that must succeed and have nothing to complain of."""
    status, stdout, stderr = run(*arguments, cwd=cwd)
    assert (status, stderr) == (0, "")
    return stdout
