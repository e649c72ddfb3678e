"""Files are whole or not there, and one process at a time writes in a folder."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from limits import file_sizes

from dist_dnn.errors import InputError
from dist_dnn.files import (
    append_line,
    beside,
    locked,
    remove_orphan,
    remove_unfinished,
    write_atomically,
)


def test_a_file_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    for content in (b"older", b"new", b""):
        write_atomically(tmp_path / "x", content)
        assert (tmp_path / "x").read_bytes() == content
    assert os.listdir(tmp_path) == ["x"]


def test_a_file_that_cannot_be_written_leaves_the_older_one(tmp_path: Path) -> None:
    write_atomically(tmp_path / "x", b"older")
    with file_sizes(1000), pytest.raises(OSError, match="too large"):
        write_atomically(tmp_path / "x", bytes(1001))
    assert (tmp_path / "x").read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["x"]


def test_a_line_is_appended_whole_or_not_at_all(tmp_path: Path) -> None:
    append_line(tmp_path / "x", "a" * 600)
    with file_sizes(1000), pytest.raises(OSError, match="too large"):
        append_line(tmp_path / "x", "b" * 600)
    append_line(tmp_path / "x", "c")
    assert (tmp_path / "x").read_text() == "a" * 600 + "\nc\n"


def test_what_was_not_finished_is_removed_and_nothing_else(tmp_path: Path) -> None:
    names = ["x", ".hidden", ".x.y", ".x.host.77", "x.host.1.2"]
    for name in names:
        (tmp_path / name).touch()
    beside(tmp_path / "x").touch()
    (tmp_path / ".x.another-host.12.34").touch()
    remove_unfinished(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([*names[:3], "x.host.1.2", ".x.host.77"])


def test_folders_of_processes_that_are_gone_are_removed(tmp_path: Path) -> None:
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    host = socket.gethostname()
    own = os.getpid()
    # An earlier process may have had the number of this one, as in containers.
    orphans = [f".run[1].{host}.5.{gone}", f".run[1].{host}.5.{own}"]
    orphans.append(f".run[1].{host}.{threading.get_native_id()}.{own}")
    others = [
        f".run[1].{host}.5.{os.getppid()}",
        f".run[1].elsewhere.5.{gone}",
        f".r.{host}.{gone}",
    ]
    end = threading.Event()
    other_thread = threading.Thread(target=end.wait)
    other_thread.start()
    others.append(f".run[1].{host}.{other_thread.native_id}.{own}")
    for name in orphans + others:
        (tmp_path / name / "checkpoints").mkdir(parents=True)
    remove_orphan(tmp_path / "run[1]")
    assert sorted(os.listdir(tmp_path)) == sorted(others)
    end.set()
    other_thread.join()


def test_a_folder_is_one_process_s(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(InputError, match="is being written by another process"),
        locked(tmp_path),
    ):
        pytest.fail("both have it")
    with locked(tmp_path):
        assert os.listdir(tmp_path) == []


def test_a_lock_goes_with_the_folder_when_it_is_renamed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with locked(tmp_path / "a"):
        (tmp_path / "a").rename(tmp_path / "b")
        with pytest.raises(InputError), locked(tmp_path / "b"):
            pytest.fail("both have it")
