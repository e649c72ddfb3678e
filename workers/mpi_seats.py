"""Ranks as processes: where each of them runs, and which have been stopped for too long."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import NamedTuple

LOOKS = 20
"""The watch looks around so often in the time that a rank may be stopped."""


class Seat(NamedTuple):
    """A rank of the team.

    Attributes:
        number: its rank when it was launched, by which messages name it.
        host: where it runs.
        process: its process there.
        born: when that began, as the system counts; it tells processes of one number apart.
    """

    number: int
    host: str
    process: int
    born: str

    @classmethod
    def own(cls, number: int) -> "Seat":
        """That of this process."""
        process = os.getpid()
        _, born = state_and_birth(process)
        return cls(number, socket.gethostname(), process, born)

    @property
    def name(self) -> str:
        return f"rank {self.number} on {self.host}"

    @property
    def state(self) -> str:
        """As the system has it: T is stopped; nothing where it has ended, or is elsewhere."""
        if self.host != socket.gethostname():
            return ""
        state, born = state_and_birth(self.process)
        return state if born == self.born and state not in ("Z", "X") else ""

    def kill(self) -> None:
        """End its process, if it is one of this machine's."""
        if self.state:
            with suppress(OSError):
                os.kill(self.process, signal.SIGKILL)


def state_and_birth(process: int) -> tuple[str, str]:
    """Of a process of this machine; empty when it is gone, or where there is no /proc."""
    with suppress(OSError, IndexError):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return fields[0], fields[19]
    return "", ""


class Watch:
    """A thread that ends ranks of this machine which somebody stopped: MPI does not notice.

    Open MPI's own failure detector would, but the thread that it needs hangs the start now and
    then. A watch that is stopped itself does not count: the ranks may all be stopped for a while.

    Args:
        seconds: that a rank may be stopped.
        seats: gives those to look at.
    """

    def __init__(self, seconds: float, seats: Callable[[], Sequence[Seat]]) -> None:
        self._seconds = seconds
        self._seats = seats
        self._since: dict[Seat, float] = {}
        threading.Thread(target=self._look_around, daemon=True).start()

    def has_stopped(self, seat: Seat) -> bool:
        """Whether a rank was stopped when it was last seen alive."""
        return seat in self._since

    def _look_around(self) -> None:
        period = self._seconds / LOOKS
        looked = monotonic()
        while True:
            sleep(period)
            if monotonic() - looked > self._seconds / 2:
                self._since.clear()
            looked = monotonic()
            for seat in self._seats():
                self._look_at(seat)

    def _look_at(self, seat: Seat) -> None:
        state = seat.state
        if state == "T":
            if monotonic() - self._since.setdefault(seat, monotonic()) > self._seconds:
                seat.kill()
        elif state:
            self._since.pop(seat, None)
