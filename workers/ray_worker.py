"""A Ray actor that computes, with those whose memory it shares, and may head them."""

import os
import platform
import socket
import threading
from time import monotonic, sleep
from typing import Any

import numpy as np
import pyarrow as pa

from dist_dnn.arithmetic import arithmetic, quiet_overflow
from dist_dnn.data.dataset import Dataset
from dist_dnn.rounds import Options
from workers.member import Member
from workers.shard_worker import Failure, failures, seen_dataset, task_class
from workers.shared_memory import Address, Board, Broadcast, Segment, doze, wait_until
from workers.site import Probe, Shards, Site, shares_memory

OTHERS_SECONDS = 5.0
"""How long to wait, after another worker's error, for this one's."""

Pair = tuple[Any, Any]
"""Vectors as they travel."""


class RayWorker:
    """One worker. Its methods run in threads of one process, of which one serves."""

    def __init__(self) -> None:
        self.datasets: dict[str, Dataset] = {}
        self.member: Member | None = None
        self.site: Site | None = None
        self.broadcasts: dict[int, Broadcast] = {}
        self._probe: Probe | None = None
        self._failures: dict[int, Failure] = {}
        self._busy = threading.Lock()
        self._heading = threading.Lock()

    # Who it is, and with whom it shares memory

    def greet(self, address: Address, secret: bytes) -> dict[str, Any]:
        """Say where this worker runs, and whether it shares memory with the driver.

        Args:
            address, secret: of the driver's probe.
        """
        import ray

        return {
            "arithmetic": arithmetic() | {"host": here()},
            "versions": versions(),
            "node": ray.get_runtime_context().get_node_id(),
            "process": os.getpid(),
            "shares": shares_memory(address, secret),
        }

    def offer(self) -> tuple[Address, bytes]:
        """A probe of this worker's memory, for others on its node."""
        if self._probe is None:
            self._probe = Probe()
        return self._probe.address, self._probe.secret

    def shares(self, address: Address, secret: bytes) -> bool:
        """Whether this worker shares memory with the one that offers a probe."""
        return shares_memory(address, secret)

    def ping(self) -> None:
        """Answer."""

    # Shards move

    def leave(self) -> None:
        """Be in no site any more, once what is in hand is done; no other member waits for it."""
        if self.member is not None:
            self.member.board.driver[Board.ABANDONED] = NEVER
        with self._busy:
            self.member = None
        with self._heading:
            if self.site is not None:
                self.site.close()
                self.site = None
            for broadcast in self.broadcasts.values():
                broadcast.close()
            self.broadcasts.clear()
        self._failures.clear()

    def lead(self, held: list[Shards], shards: int, generation: int) -> Address:
        """Head a site from now on; returns where its words are."""
        self.site = Site(held, shards, generation)
        return self.site.address

    def join(self, index: int, held: list[Shards], shards: int, words: Address) -> None:
        """Be a member of a site from now on."""
        board = Board(Segment.of(words).memory)
        self.member = Member(index, held, shards, board, self.datasets)

    # What is loaded and open

    def load(self, name: str, description: Options, table: np.ndarray | None) -> Failure | None:
        """Make a data set known.

        Args:
            table: the bytes of a table in memory, as an Arrow IPC file.
        """
        with failures() as failed:
            buffer = None if table is None else pa.py_buffer(table.data)
            self.datasets[name] = seen_dataset(description, buffer, here())
        return failed.get("error")

    def lead_open(self, number: int, name: str, options: Options) -> tuple[Address, Address]:
        """Make the memory of a task for the site headed; returns what ``open`` takes."""
        assert self.site is not None
        sizes, sums = task_class(name).sizes(options)
        if number in self.broadcasts:
            self.broadcasts[number].close()
        self.broadcasts[number] = broadcast = Broadcast(sizes)
        return broadcast.segment.address, self.site.open(number, sums)

    def open(
        self, number: int, name: str, options: Options, broadcast: Address, slots: Address
    ) -> Failure | None:
        """Make a task."""
        assert self.member is not None
        with failures() as failed, self._busy:
            self.member.open(
                number,
                name,
                options,
                Segment.of(broadcast, read_only=True),
                Segment.of(slots),
            )
        return failed.get("error")

    # Rounds

    def serve(self) -> None:
        """Do the rounds that are asked for in shared memory, for as long as this process lives."""
        with quiet_overflow():
            while True:
                wait_until(self._is_asked, doze)
                with self._busy:
                    member = self.member
                    if member is not None and member.is_asked():
                        self._round(member)

    def _is_asked(self) -> bool:
        member = self.member
        return member is not None and member.is_asked()

    def _round(self, member: Member) -> None:
        with failures() as failed:
            member.round()
        if failed:
            self._failures = {member.done: failed["error"]}
            member.words[Board.FAILED] = member.done

    def round(
        self,
        number: int,
        position: tuple[int, ...],
        generation: int,
        broadcast: Pair,
        returns: int,
    ) -> Any:
        """One round of the site headed.

        Args:
            returns: how many things come back.

        Returns:
            The sums of each complete subtree, ascending, in a list where there are several;
            nothing in their places where the round is given up, or a worker failed.
        """
        with self._heading:
            site = self.site
            # What comes too late, over a slow network, may meet another site, or none.
            if site is None or generation <= site.board.driver[Board.GENERATION]:
                return _several([None] * returns)
            vectors = self.broadcasts[number].vectors
            np.copyto(vectors.single, broadcast[0])
            np.copyto(vectors.double, broadcast[1])
            site.board.ask(generation, number, position)
            wait_until(lambda: site.is_over(generation), doze)
            if not site.board.is_finished(generation):
                return _several([None] * returns)
            totals = sorted(site.arenas[number].totals.items())
            # Ray copies them when this method returns.
            return _several([(each.single, each.double) for _, each in totals])

    def add(self, left: Pair | None, right: Pair | None) -> Pair | None:
        """The sum of two subtrees, unless one is not there."""
        if left is None or right is None:
            return None
        return left[0] + right[0], left[1] + right[1]

    def give_up(self, generation: int) -> None:
        """Let the members of the site headed end the round without its sums."""
        if self.site is not None:
            self.site.give_up(generation)

    def failure(self, generation: int) -> Failure | None:
        """What this worker met in a round that is given up, once it has done its part."""
        end = monotonic() + OTHERS_SECONDS
        while not self._is_done(generation) and monotonic() < end:
            sleep(1e-3)
        return self._failures.get(generation)

    def is_late(self, generation: int) -> bool:
        """Whether this worker keeps a round waiting."""
        return not self._is_done(generation)

    def _is_done(self, generation: int) -> bool:
        if self.member is None:
            return False
        words = self.member.words
        return generation in (words[Board.COMPUTED], words[Board.FAILED])


def _several(results: list[Any]) -> Any:
    """What a method gives that Ray expects so many results of: one is not in a list."""
    return results if len(results) > 1 else results[0]


NEVER = 2**62
"""A generation that does not come."""


def versions() -> str:
    """What Ray wants to be the same everywhere, for messages."""
    import ray

    return f"Ray {ray.__version__} and Python {platform.python_version()}"


def here() -> str:
    """This node, as messages name it."""
    import ray

    return f"node {ray.util.get_node_ip_address()} ({socket.gethostname()})"
