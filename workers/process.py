"""A local worker's process as the driver sees it: its start, its messages and its end."""

import os
import signal
import site
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic
from typing import Any

from dist_dnn.arithmetic import ONE_THREAD
from workers.group import WorkerLost
from workers.messages import receive, send

MESSAGE_SECONDS = 30
"""How long a message may take to be read, or to come whole."""

END_SECONDS = 5.0
"""How long a worker may take to end, before it is killed, and then before it is left alone."""


class Process:
    """A worker's process and the connection to it.

    Attributes:
        number: of the worker.
        held: its shards, once it has joined.
        greeting: what it said when it had started; None before.
        is_checked: its arithmetic is known to be the driver's, or was warned of.
        datasets: those it knows.
        stopped_since: when it was first seen to be stopped, since something was heard of it.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.held: tuple[int, ...] = ()
        self.greeting: dict[str, Any] | None = None
        self.is_checked = False
        self.datasets: set[str] = set()
        self.stopped_since: float | None = None
        ours, theirs = socket.socketpair()
        with theirs:
            self.popen = subprocess.Popen(  # noqa: S603 - our own module, no shell
                [sys.executable, "-P", "-m", "workers.local_worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=os.environ | ONE_THREAD | {"PYTHONPATH": python_path()},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                process_group=0,  # an interrupt from the terminal is the driver's alone
            )
        for side in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, side, struct.pack("ll", MESSAGE_SECONDS, 0))
        self.connection = Connection(ours.detach())

    def send(self, message: dict[str, Any], descriptors: Sequence[int]) -> None:
        """Send a message with open files.

        Raises:
            WorkerLost: it cannot be sent.
        """
        try:
            send(self.connection, message, descriptors)
        except BlockingIOError:
            raise self.lost(f"did not read for {MESSAGE_SECONDS} s") from None
        except OSError:
            raise self.lost() from None

    def receive(self) -> dict[str, Any] | None:
        """The next message; None when it only rings.

        Raises:
            WorkerLost: there will be none.
        """
        try:
            received = receive(self.connection)
        except BlockingIOError:
            raise self.lost(f"did not write for {MESSAGE_SECONDS} s") from None
        except (EOFError, OSError):
            raise self.lost() from None
        self.stopped_since = None
        if received is None:
            return None
        message, _ = received
        if "arithmetic" in message:
            self.greeting = message
        return message

    def bind(self, cores: set[int]) -> None:
        """Let the process compute on these cores alone."""
        with suppress(OSError):  # it ended just now, or may not be bound: nothing depends on it
            os.sched_setaffinity(self.popen.pid, cores)

    def check_stopped(self, seconds: float) -> None:
        """Raise WorkerLost when the process has been stopped (by SIGSTOP, say) for so long."""
        since = self.stopped_for()
        if since > seconds:
            raise self.lost(f"was stopped for {since:.3g} s")

    def stopped_for(self) -> float:
        """For how many seconds the process has been seen to be stopped."""
        if not self._is_stopped():
            self.stopped_since = None
            return 0.0
        if self.stopped_since is None:
            self.stopped_since = monotonic()
        return monotonic() - self.stopped_since

    def _is_stopped(self) -> bool:
        if not hasattr(os, "waitid"):  # then only the time that a round takes tells
            return False
        options = os.WSTOPPED | os.WNOHANG | os.WNOWAIT
        try:
            return os.waitid(os.P_PID, self.popen.pid, options) is not None
        except ChildProcessError:  # it ended just now
            return False

    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self.popen.poll() is not None

    def lost(self, what: str | None = None) -> WorkerLost:
        """What to raise: says what is wrong with the process, or how it ended."""
        if what is None:
            self.end()
            status = self.popen.returncode
            if status is None:
                what = "is out of reach"
            elif status < 0:
                what = f"was killed by {_signal_name(-status)}"
            else:
                what = f"ended with status {status}"
        return WorkerLost(self.number, self.held, what)

    def end(self, at_once: bool = False) -> None:
        """Wait until the process has ended; kill it if it does not, or at once."""
        self.connection.close()
        for _ in range(2):
            if at_once:
                self.popen.kill()
            try:
                self.popen.wait(END_SECONDS)
                return
            except subprocess.TimeoutExpired:
                at_once = True


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def python_path() -> str:
    """Where a worker finds this very package, and what else the driver's environment names."""
    root = str(Path(__file__).resolve().parents[1])
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    # Installed packages are found anyway; named here, they would come before the standard library.
    if root not in [*site.getsitepackages(), site.getusersitepackages()]:
        paths.insert(0, root)
    return os.pathsep.join(filter(None, paths))
