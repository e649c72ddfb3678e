"""The local group: worker processes on this machine that exchange through shared memory."""

import math
import os
import platform
import select
import signal
import site
import socket
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic
from typing import Any

import pyarrow as pa

from dist_dnn.arithmetic import ONE_THREAD, arithmetic
from dist_dnn.data.dataset import Dataset
from dist_dnn.data.sources import TableSource
from dist_dnn.errors import InputError, RunError
from dist_dnn.rounds import Options, Rounds, Task, Timings, Vectors
from dist_dnn.shards import assign
from workers.group import WorkerGroup, WorkerLost, check_same_arithmetic
from workers.messages import receive, ring, send
from workers.shard_worker import task_name
from workers.shared_memory import Arena, Board, Patience, Segment

ORDERED_STORES = ("x86_64", "AMD64")
"""Processors on which stores become visible in their order, which the shared words rely on."""

START_SECONDS = 60.0
"""How long a worker may take to start."""

END_SECONDS = 5.0
"""How long a worker that was let go may take to end, before it is killed."""

OTHERS_SECONDS = 5.0
"""How long to wait, after a worker's error, for workers that hold lower rows."""


class LocalGroup(WorkerGroup):
    """Worker processes, started at once and joined when they are needed.

    Raises:
        InputError: more workers than shards.
    """

    def __init__(self, shards: int, workers: int, allow_mixed_cpus: bool = False) -> None:
        super().__init__(shards, workers)
        if platform.machine() not in ORDERED_STORES:
            raise RunError(
                f"local workers need a processor of {' or '.join(ORDERED_STORES)}, not "
                f"{platform.machine()}: use --workers 0"
            )
        self.held = assign(shards, workers)
        self.allow_mixed_cpus = allow_mixed_cpus
        self.generation = 0
        self.tasks: dict[str, int] = {}
        self.patience = Patience()
        self.processes: list[Process] = []
        try:
            for number in range(workers):
                self.processes.append(Process(number, self.held[number]))
        except OSError as error:
            self.close()
            raise RunError(f"worker {len(self.processes)} could not be started: {error}") from error
        self.board: Board | None = None
        self.poll = select.poll()
        for process in self.processes:
            self.poll.register(process.connection.fileno(), select.POLLIN)

    def join(self) -> Board:
        """Wait until all workers have started, and tell them who holds what."""
        if self.board is None:
            segment = Segment.create(Board.size(self.workers))
            own = arithmetic()
            for process, greeting in zip(self.processes, self._answers(START_SECONDS), strict=True):
                self._check_arithmetic(own, greeting["arithmetic"], process.number)
                start = {"number": process.number, "held": self.held, "shards": self.shards}
                process.send(start, segment)
            segment.close_descriptor()
            self.board = Board(segment.memory)
        return self.board

    def _check_arithmetic(self, own: dict[str, Any], theirs: dict[str, Any], number: int) -> None:
        try:
            check_same_arithmetic(own, theirs, number)
        except RunError as error:
            if not self.allow_mixed_cpus:
                raise
            print(f"warning: {error}", file=sys.stderr)

    def load(self, name: str, dataset: Dataset) -> None:
        self.join()
        segment = _table_segment(dataset)
        message = {"load": name, "description": dataset.description()}
        self._ask_all(message, segment)

    def open(self, task: type[Task], options: Options) -> Rounds:
        self.join()
        arena = Arena(self.held, self.shards, *task.sizes(options))
        name = task_name(task)
        number = self.tasks.setdefault(name, len(self.tasks))
        self._ask_all({"open": name, "number": number, "options": dict(options)}, arena.segment)
        return LocalRounds(self, number, arena.broadcast, arena.total)

    def _ask_all(self, message: dict[str, Any], segment: Segment | None) -> None:
        """Send all workers a message and wait for their answers."""
        for process in self.processes:
            process.send(message, segment)
        if segment is not None:
            segment.close_descriptor()
        answers = self._answers()
        self._raise_first({number: each for number, each in enumerate(answers) if "error" in each})

    def _answers(self, seconds: float = math.inf) -> list[dict[str, Any]]:
        """One message of every worker, in so many seconds; what rounds left over is dropped.

        Raises:
            WorkerLost: any worker is gone, whether it has answered or not; or one is late.
        """
        answers: dict[int, dict[str, Any]] = {}
        end = monotonic() + seconds
        while len(answers) < self.workers:
            for number, message in self._messages(1.0).items():
                if message.get("generation") is None:
                    answers[number] = message
            if monotonic() > end:
                late = min(set(range(self.workers)) - set(answers))
                raise WorkerLost(late, self.held[late], f"did not start in {seconds:.0f} s")
        return [answers[number] for number in range(self.workers)]

    def _raise_first(self, errors: dict[int, dict[str, Any]]) -> None:
        """Raise the error of the lowest worker, which holds the lowest rows."""
        for number in sorted(errors):
            error = errors[number]
            if error["kind"] == "input":
                raise InputError(error["error"])
            raise RunError(f"worker {number}: {error['error']}")

    def run(self, task: int, position: tuple[int, ...]) -> None:
        """One round: returns when all slices of the sums are finished."""
        board = self.join()
        self.generation = generation = self.generation + 1
        assert len(position) <= Board.MOST_POSITIONS
        board.driver[Board.TASK] = task
        board.driver[Board.POSITIONS] = len(position)
        for word, value in enumerate(position, Board.FIRST_POSITION):
            board.driver[word] = value
        board.driver[Board.GENERATION] = generation
        for process, words in zip(self.processes, board.workers, strict=True):
            if words[Board.SLEEPING]:
                ring(process.connection)
        self.patience.wait(
            lambda: all(words[Board.FINISHED] == generation for words in board.workers),
            self._sleep,
        )

    def _sleep(self) -> None:
        """Sleep until a worker rings, fails or is gone."""
        board = self.join()
        board.driver[Board.SLEEPING] = 1
        # A ring that crossed with the word just written is made up for by the next look.
        errors = self._errors()
        board.driver[Board.SLEEPING] = 0
        if errors:
            self._give_up_round(errors)

    def _errors(self) -> dict[int, dict[str, Any]]:
        """The errors of this round that workers have sent, by worker."""
        messages = self._messages(0.02).items()
        return {number: each for number, each in messages if each["generation"] == self.generation}

    def _messages(self, seconds: float) -> dict[int, dict[str, Any]]:
        """A message of each worker that has sent one, by worker; waits so long for any.

        Raises:
            WorkerLost: a worker is gone.
        """
        ready = {descriptor for descriptor, _ in self.poll.poll(seconds * 1000)}
        messages = {}
        for process in self.processes:
            if process.connection.fileno() in ready:
                message = process.receive()
                if message is not None:
                    messages[process.number] = message
        return messages

    def _give_up_round(self, errors: dict[int, dict[str, Any]]) -> None:
        """Let all workers end the round without its sums, then raise the lowest error."""
        board = self.join()
        board.driver[Board.ABANDONED] = self.generation
        end = monotonic() + OTHERS_SECONDS
        while monotonic() < end:
            pending = (
                number
                for number, words in enumerate(board.workers)
                if number not in errors and words[Board.COMPUTED] != self.generation
            )
            if all(number > min(errors) for number in pending):
                break
            errors |= self._errors()
        self._raise_first(errors)

    def close(self) -> None:
        for process in self.processes:
            process.connection.close()
        for process in self.processes:
            process.end()
        self.processes = []


class LocalRounds:
    """The rounds of one task opened on a local group."""

    def __init__(self, group: LocalGroup, task: int, broadcast: Vectors, total: Vectors) -> None:
        self.broadcast = broadcast
        self._group = group
        self._task = task
        self._total = total

    def run(self, *position: int) -> Vectors:
        self._group.run(self._task, position)
        return self._total

    @property
    def timings(self) -> Timings:
        words = self._group.join().workers
        return Timings(
            max(each[Board.COMPUTE_TIME] for each in words) * 1e-9,
            max(each[Board.REDUCE_TIME] for each in words) * 1e-9,
        )


class Process:
    """A worker's process and the connection to it."""

    def __init__(self, number: int, held: tuple[int, ...]) -> None:
        self.number = number
        self.held = held
        ours, theirs = socket.socketpair()
        with theirs:
            self.popen = subprocess.Popen(  # noqa: S603 - our own module, no shell
                [sys.executable, "-P", "-m", "workers.local_worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=os.environ | ONE_THREAD | {"PYTHONPATH": _python_path()},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                process_group=0,  # an interrupt from the terminal is the driver's alone
            )
        self.connection = Connection(ours.detach())

    def send(self, message: dict[str, Any], segment: Segment | None) -> None:
        try:
            send(self.connection, message, None if segment is None else segment.descriptor)
        except OSError:
            raise self.lost() from None

    def receive(self) -> dict[str, Any] | None:
        """The next message; None when it only rings."""
        try:
            received = receive(self.connection)
        except (EOFError, OSError):
            raise self.lost() from None
        return None if received is None else received[0]

    def lost(self) -> WorkerLost:
        """What to raise when the connection broke: says how the process ended."""
        self.end()
        status = self.popen.returncode
        if status < 0:
            what = f"was killed by {signal.Signals(-status).name}"
        else:
            what = f"ended with status {status}"
        return WorkerLost(self.number, self.held, what)

    def end(self) -> None:
        """Wait until the process has ended; kill it if it does not."""
        try:
            self.popen.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


def _table_segment(dataset: Dataset) -> Segment | None:
    """A table in memory as an Arrow IPC file in shared memory; None for files."""
    if not isinstance(dataset.source, TableSource):
        return None
    table = dataset.source.select(dataset.names)
    size = table.ipc_size()
    segment = Segment.create(size)
    table.write_ipc(pa.FixedSizeBufferWriter(pa.py_buffer(segment.memory)))
    return segment


def _python_path() -> str:
    """Where a worker finds this very package, and what else the driver's environment names."""
    root = str(Path(__file__).resolve().parents[1])
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    # Installed packages are found anyway; named here, they would come before the standard library.
    if root not in [*site.getsitepackages(), site.getusersitepackages()]:
        paths.insert(0, root)
    return os.pathsep.join(filter(None, paths))
