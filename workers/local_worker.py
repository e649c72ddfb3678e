"""A local worker's process: ``python -m workers.local_worker DESCRIPTOR`` serves until let go."""

import os
import select
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import pyarrow as pa

from dist_dnn.arithmetic import arithmetic, quiet_overflow
from dist_dnn.data.dataset import Dataset
from dist_dnn.errors import InputError, RunError
from workers.member import Member
from workers.messages import receive, ring, send
from workers.shard_worker import failure_of, one_line
from workers.shared_memory import Board, Segment, wait_until


class LocalWorker:
    """Serves the driver: does the rounds that it asks for, and what its messages say.

    Args:
        connection: to the driver.
        member: this worker among all of the group.
    """

    def __init__(self, connection: Connection, member: Member) -> None:
        self.connection = connection
        self.member = member
        self.successor: LocalWorker | None = None

    def serve(self) -> None:
        """Do what the driver asks for, until shards move."""
        while self.successor is None:
            wait_until(self._is_asked, self._sleep)
            if self.successor is None:
                self._round()

    def _is_asked(self) -> bool:
        return self.member.is_asked() or self.successor is not None

    def _sleep(self, waited: float) -> None:
        self.member.words[Board.SLEEPING] = 1
        # A ring that crossed with the word just written is made up for by the next look.
        if not self._is_asked() and self.connection.poll(0.1):
            self.member.words[Board.SLEEPING] = 0
            self._answer()
        self.member.words[Board.SLEEPING] = 0

    def _answer(self) -> None:
        received = receive(self.connection)
        if received is None:
            return
        message, descriptors = received
        try:
            with one_line("the worker"):
                self._do(message, descriptors)
        except (InputError, RunError) as error:
            self._send_error(error, message=message["message"])
        else:
            send(self.connection, {"message": message["message"]})

    def _do(self, message: dict[str, Any], descriptors: list[int]) -> None:
        work = self.member.work
        if "join" in message:
            self.successor = _join(self.connection, message, descriptors, work.datasets)
        elif "load" in message:
            segments = [Segment.received(each, read_only=True) for each in descriptors]
            buffer = pa.py_buffer(segments[0].memory) if segments else None
            work.load(message["load"], message["description"], buffer)
        else:
            broadcast = Segment.received(descriptors[0], read_only=True)
            slots = Segment.received(descriptors[1])
            self.member.open(
                message["number"], message["open"], message["options"], broadcast, slots
            )

    def _send_error(self, error: InputError | RunError, **about: int) -> None:
        send(self.connection, failure_of(error) | about)

    def _round(self) -> None:
        driver = self.member.board.driver
        try:
            self.member.round()
        except (InputError, RunError) as error:
            self._send_error(error, generation=self.member.done)
        else:
            if driver[Board.SLEEPING]:
                ring(self.connection)


def end_with_the_driver(connection: Connection) -> None:
    """End this process at once when the driver is gone, whatever it is computing."""
    poll = select.poll()
    poll.register(connection.fileno(), 0)  # reports a closed connection and nothing else

    def watch() -> None:
        poll.poll()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Greet the driver with what decides this process's bits, then serve."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides what an interrupt ends
    connection = Connection(int(sys.argv[1]))
    end_with_the_driver(connection)
    # Once and for all: in each round it would cost a small step some hundredths.
    with quiet_overflow(), suppress(EOFError, BrokenPipeError, ConnectionResetError):
        # What is suppressed is that the driver let go.
        send(connection, {"arithmetic": arithmetic()})
        received = receive(connection)
        assert received is not None
        message, descriptors = received
        worker: LocalWorker | None = _join(connection, message, descriptors, {})
        send(connection, {"message": message["message"]})
        while worker is not None:
            worker.serve()
            worker = worker.successor


def _join(
    connection: Connection,
    message: dict[str, Any],
    descriptors: list[int],
    datasets: dict[str, Dataset],
) -> LocalWorker:
    """The worker that the driver says this process is from now on; data sets stay loaded."""
    [descriptor] = descriptors
    held = [tuple(shards) for shards in message["held"]]
    board = Board(Segment.received(descriptor).memory)
    member = Member(message["join"], held, message["shards"], board, datasets)
    return LocalWorker(connection, member)


if __name__ == "__main__":
    main()
