"""A local worker's process: ``python -m workers.local_worker DESCRIPTOR`` serves until let go."""

import os
import select
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from time import perf_counter_ns
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dist_dnn.arithmetic import arithmetic
from dist_dnn.data.dataset import Dataset
from dist_dnn.errors import InputError, RunError
from dist_dnn.rounds import Sizes
from workers.messages import receive, ring, send
from workers.shard_worker import ShardWorker, one_line, task_class
from workers.shared_memory import Arena, Board, Patience, Segment, broadcast_vectors, doze

SLICE_NUMBERS = 1024
"""The slices that workers finish have a multiple of so many numbers."""


class LocalWorker:
    """One worker: computes its shards' sums, then finishes its slice of everyone's.

    Args:
        connection: to the driver.
        number: of this worker, from 0.
        held: the shards that each worker holds.
        shards: S.
        board: the words of the group.
        datasets: those that are loaded.
    """

    def __init__(
        self,
        connection: Connection,
        number: int,
        held: list[tuple[int, ...]],
        shards: int,
        board: Board,
        datasets: dict[str, Dataset],
    ) -> None:
        self.connection = connection
        self.board = board
        self.words = board.workers[number]
        self.number = number
        self.held = held
        self.work = ShardWorker(held[number], shards, datasets)
        self.tasks: dict[int, OpenTask] = {}
        self.done = board.driver[Board.GENERATION]
        self.patience = Patience()
        self.patience_with_peers = Patience()
        self.successor: LocalWorker | None = None

    def serve(self) -> None:
        """Do what the driver asks for, until shards move."""
        while self.successor is None:
            self.patience.wait(self._is_asked, self._sleep)
            if self.successor is None:
                self._round()

    def _is_asked(self) -> bool:
        return self.board.driver[Board.GENERATION] != self.done or self.successor is not None

    def _sleep(self) -> None:
        self.words[Board.SLEEPING] = 1
        # A ring that crossed with the word just written is made up for by the next look.
        if not self._is_asked() and self.connection.poll(0.1):
            self.words[Board.SLEEPING] = 0
            self._answer()
        self.words[Board.SLEEPING] = 0

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
        if "join" in message:
            self.successor = _join(self.connection, message, descriptors, self.work.datasets)
        elif "load" in message:
            segments = [Segment.received(each, read_only=True) for each in descriptors]
            buffer = pa.py_buffer(segments[0].memory) if segments else None
            self.work.load(message["load"], message["description"], buffer)
        else:
            self.tasks[message["number"]] = OpenTask(self, message, *descriptors)

    def _send_error(self, error: Exception, **about: int) -> None:
        kind = "input" if isinstance(error, InputError) else "run"
        send(self.connection, {"error": str(error), "kind": kind, **about})

    def _round(self) -> None:
        driver, words = self.board.driver, self.words
        generation = driver[Board.GENERATION]
        task = self.tasks[driver[Board.TASK]]
        stop = Board.FIRST_POSITION + driver[Board.POSITIONS]
        position = tuple(driver[Board.FIRST_POSITION : stop])
        self.done = generation
        began = perf_counter_ns()
        try:
            self.work.run(task.name, position)
        except (InputError, RunError) as error:
            self._send_error(error, generation=generation)
            return
        computed = perf_counter_ns()
        words[Board.COMPUTE_TIME] = computed - began
        words[Board.COMPUTED] = generation
        if not self._await_peers(generation):
            return
        joining = perf_counter_ns()
        task.finish_slice()
        words[Board.REDUCE_TIME] = perf_counter_ns() - joining
        words[Board.FINISHED] = generation
        if driver[Board.SLEEPING]:
            ring(self.connection)

    def _await_peers(self, generation: int) -> bool:
        """Wait until all have computed; False when the driver gave the round up."""
        driver, workers = self.board.driver, self.board.workers

        def ready() -> bool:
            if driver[Board.ABANDONED] >= generation:
                return True
            return all(words[Board.COMPUTED] >= generation for words in workers)

        self.patience_with_peers.wait(ready, doze)
        return driver[Board.ABANDONED] < generation


class OpenTask:
    """An open task's memory, and what this worker adds to finish its slice of the sums."""

    def __init__(
        self, worker: LocalWorker, message: dict[str, Any], broadcast: int, slots: int
    ) -> None:
        self.name: str = message["open"]
        sizes, sums = task_class(self.name).sizes(message["options"])
        vectors = broadcast_vectors(Segment.received(broadcast, read_only=True), sizes)
        arena = Arena(worker.held, worker.work.shards, sums, Segment.received(slots))
        own = _slice(sums, worker.number, len(worker.held))
        self._additions: list[tuple[NDArray[Any], NDArray[Any]]] = [
            (into.single[own], other.single[own]) for into, other in arena.joining
        ]
        if worker.number == 0:
            self._additions += [(into.double, other.double) for into, other in arena.joining]
        worker.work.open(self.name, message["options"], vectors, arena.slots[worker.number])

    def finish_slice(self) -> None:
        """Add the workers' subtrees along the tree, for this worker's slice of the vector."""
        for into, other in self._additions:
            np.add(into, other, out=into)


def _slice(sums: Sizes, number: int, workers: int) -> slice:
    pieces = -(-sums.single // SLICE_NUMBERS)
    first, stop = pieces * number // workers, pieces * (number + 1) // workers
    return slice(first * SLICE_NUMBERS, min(stop * SLICE_NUMBERS, sums.single))


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
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the driver let go
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
    return LocalWorker(connection, message["join"], held, message["shards"], board, datasets)


if __name__ == "__main__":
    main()
