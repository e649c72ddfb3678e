"""The Ray group: actors that compute, on the driver's node and on others.

Workers that share memory make a *site* and exchange in it, as the local group does. The driver
heads the site of those that share its own memory; every other site is headed by its lowest worker.
Between sites one vector for each complete subtree travels through Ray's object store, from actor
to actor.
"""

import os
import signal
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import ray
from ray.exceptions import RayActorError, RayError, RayTaskError, RuntimeEnvSetupError
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)

from dist_dnn import stopping
from dist_dnn.arithmetic import ONE_THREAD, arithmetic
from dist_dnn.data.dataset import Dataset
from dist_dnn.data.sources import TableSource
from dist_dnn.errors import RunError
from dist_dnn.notices import warn
from dist_dnn.reporting import Progress
from dist_dnn.rounds import Result, Rounds, Vectors
from dist_dnn.shards import assign, complete_subtrees, middle
from workers.group import WorkerLost, check_same_arithmetic, raise_first
from workers.limits import (
    TOGETHER_PART,
    TOGETHER_SECONDS,
    UNMEASURED_SECONDS,
)
from workers.process import python_path
from workers.ray_cluster import Cluster
from workers.ray_gauges import RayGauges
from workers.ray_worker import OTHERS_SECONDS, RayWorker, here, versions
from workers.settling import Loaded, Opened, SettlingGroup
from workers.shard_worker import described
from workers.shared_memory import Address, doze, wait_until
from workers.site import Probe, Shards, Site, Subtree

TICK = 0.05
"""A wait looks around after so many seconds: for signals, lost workers, its end."""

END_SECONDS = 5.0
"""How long a worker that is killed may take to be gone."""

ANSWER_SECONDS = 1.0
"""How long a worker may take to say whether it is late."""

REPLACE_SECONDS = 20.0
"""How long a worker that takes the place of a lost one may take to start."""

NODE_SECONDS = 20.0
"""How long Ray may take to know that a node is dead."""

PLACE_SECONDS = 2.0
"""How long Ray may take to find another place for workers whose node is dead."""

THREADS = 16
"""Of an actor: one serves, the others answer."""


@dataclass
class Actor:
    """A worker as the driver sees it.

    Attributes:
        number: of the worker; another in its place has the same.
        handle: what its methods are called by.
        greeted: what it says of itself, when it has started.
        greeting: that; None before.
        serving: pending as long as it lives.
        ping, pinged: a call that it is to answer, and when it was made.
        held: its shards.
        datasets: those it knows.
    """

    number: int
    handle: Any
    greeted: Any
    greeting: dict[str, Any] | None = None
    serving: Any = None
    ping: Any = None
    pinged: float = 0.0
    held: Shards = ()
    datasets: set[str] = field(default_factory=set)

    @property
    def node(self) -> str | None:
        return None if self.greeting is None else self.greeting["node"]

    def lost(self, what: str) -> WorkerLost:
        return WorkerLost(self.number, self.held, what)

    def silent_for(self) -> float:
        """For how many seconds it has not answered."""
        return 0.0 if self.ping is None else monotonic() - self.pinged


class FarSite(NamedTuple):
    """A site that does not share the driver's memory: its members, and what they hold together."""

    members: list[Actor]
    subtrees: list[Subtree]

    @property
    def leader(self) -> Actor:
        return self.members[0]


@dataclass
class Membership:
    """Who makes which site; all new whenever shards move.

    Attributes:
        near: the workers that share the driver's memory.
        site: theirs.
        far: the other sites.
    """

    near: list[Actor]
    site: Site
    far: list[FarSite]


class Far(NamedTuple):
    """A pair of vectors in the object store, and the actor that made it."""

    actor: Actor
    reference: Any


class RoundFailed(Exception):
    """A worker met an error in the round."""


class RayGroup(SettlingGroup):
    """Actors of a Ray cluster, spread over its nodes, that each hold some shards.

    Args:
        address: of the cluster to join; None: see ``Cluster``.
        cpus_per_worker: what Ray reserves for each.
        start_timeout: the seconds in which the cluster must have room for the workers, and
            they must have started.
        name: of the run; actors are called ``name/worker-<number>``.

    Raises:
        InputError: more workers than shards, or an address that is none.
        RunError: the cluster cannot be reached or has no room.
    """

    def __init__(
        self,
        shards: int,
        workers: int,
        allow_mixed_cpus: bool = False,
        max_failures: int = 3,
        step_timeout: float | None = None,
        *,
        address: str | None = None,
        cpus_per_worker: float = 1,
        start_timeout: float = 120,
        name: str = "training",
    ) -> None:
        super().__init__(
            shards, workers, allow_mixed_cpus, max_failures, step_timeout, start_timeout
        )
        self.cpus_per_worker = cpus_per_worker
        self.start_timeout = start_timeout
        self.name = name
        self.actors: list[Actor] = []
        self.members: Membership | None = None
        self.round_ends: float | None = None
        self.round_limit = 0.0
        self._is_extended = False
        self._looked = 0.0
        self._other_versions: set[str] = set()
        self._placement: Any = None
        self._is_cut_off = False
        self._bundles = list(range(workers))
        self._probe = Probe()
        self._cluster = Cluster(address, cpus=workers * cpus_per_worker)
        try:
            self._node = ray.get_runtime_context().get_node_id()
            self._place()
            self._gauges = RayGauges(name)
            self._create(self._bundles)
        except BaseException:
            self.close()
            raise

    # What the driver asks for

    @property
    def reached(self) -> list[Actor]:
        return self.actors

    def _shared(self, dataset: Dataset) -> Any:
        return _table_in_store(dataset)

    def _rounds(self, opened: Opened) -> Rounds:
        return RayRounds(self, opened)

    def reports(self) -> list[Progress]:
        return [self._gauges]

    def surviving(self, attempt: Callable[[], Result]) -> Result:
        # Ray makes a bare KeyboardInterrupt of what a signal raises in its waits; those here look
        # for signals themselves.
        with stopping.restored(), stopping.postponed():
            return super().surviving(attempt)

    # A round

    def run(self, rounds: "RayRounds", position: tuple[int, ...]) -> Vectors:
        """One round; returns the total of the sums."""
        members, opened = self.members, rounds.opened
        assert members is not None
        self.generation = generation = self.generation + 1
        began = monotonic()
        self.in_hand = self.round_limit = opened.limit.seconds
        self.round_ends, self._is_extended = began + self.round_limit, False
        try:
            members.site.board.ask(generation, opened.number, position)
            total = self._finish(members, rounds, position)
        except RoundFailed:
            self._give_up(members, generation)
        finally:
            self.round_ends = None
        opened.limit.took(monotonic() - began)
        return total

    def _finish(
        self, members: Membership, rounds: "RayRounds", position: tuple[int, ...]
    ) -> Vectors:
        generation, site, opened = self.generation, members.site, rounds.opened
        places = self._ask_far_sites(members, opened, position)
        wait_until(lambda: site.is_over(generation), self._doze)
        if not site.board.is_finished(generation):
            raise RoundFailed
        if members.near:
            places |= site.arenas[opened.number].totals
        return self._fetch(_join_up(places, 0, self.shards, self._fetch), into=rounds.total)

    def _ask_far_sites(
        self, members: Membership, opened: Opened, position: tuple[int, ...]
    ) -> dict[Subtree, Any]:
        """Let other sites begin; returns where their sums will be."""
        places: dict[Subtree, Any] = {}
        if members.far:
            given = _put(tuple(opened.broadcast.vectors))
        for site in members.far:
            returns = len(site.subtrees)
            call = site.leader.handle.round.options(num_returns=returns)
            sums = call.remote(opened.number, position, self.generation, given, returns)
            references = sums if returns > 1 else [sums]
            for subtree, reference in zip(site.subtrees, references, strict=True):
                places[subtree] = Far(site.leader, reference)
        return places

    def _fetch(self, place: "Vectors | Far", into: Vectors | None = None) -> Vectors:
        """Vectors that this process has; those that came from elsewhere are written ``into``."""
        if isinstance(place, Vectors):
            return place
        pair = self._get(place)
        if pair is None:
            raise RoundFailed
        found = Vectors(*pair)
        if into is None:
            return found
        np.copyto(into.single, found.single)
        np.copyto(into.double, found.double)
        return into

    def _give_up(self, members: Membership, generation: int) -> None:
        """Let all workers end the round without its sums, then raise the lowest error."""
        members.site.give_up(generation)
        for site in members.far:
            site.leader.handle.give_up.remote(generation)
        calls = _calls(self.actors, "failure", generation)
        self._raise_first(self._answers(calls, OTHERS_SECONDS + self.step_timeout))
        raise RunError("a round ended without its sums, and no worker says why")

    # Waiting

    def _doze(self, waited: float) -> None:
        doze(waited)
        if monotonic() - self._looked > TICK:
            self._look()

    def _look(self) -> None:
        """Look for what ends a wait.

        Raises:
            WorkerLost: a worker is gone, silent, or late.
            Stopped: a signal asks for it.
        """
        stopping.check()
        self._look_for_losses()
        if self.round_ends is not None and monotonic() > self.round_ends:
            self._check_late()
        self._looked = monotonic()

    def _look_for_losses(self) -> None:
        pending = {actor.serving: actor for actor in self.actors if actor.serving is not None}
        for reference in _ready(list(pending)):
            try:
                ray.get(reference, timeout=END_SECONDS)
            except RayActorError as error:
                raise self._gone(pending[reference], error) from None
            except RayError:
                raise pending[reference].lost("is gone") from None
        pings = {actor.ping: actor for actor in self.actors if actor.ping is not None}
        for reference in _ready(list(pings)):
            pings[reference].ping = None
        for actor in self.actors:
            if actor.ping is None and actor.serving is not None:
                if monotonic() - actor.pinged > self.step_timeout / 4:
                    actor.ping, actor.pinged = actor.handle.ping.remote(), monotonic()
            elif actor.silent_for() > self.step_timeout:
                raise actor.lost(f"was silent for {actor.silent_for():.3g} s")

    def _check_late(self) -> None:
        """Raise WorkerLost for the first worker that keeps the round waiting."""
        calls = _calls(self.actors, "is_late", self.generation)
        ready = _ready([call.reference for call in calls], ANSWER_SECONDS)
        for call in calls:
            if call.reference not in ready:
                raise call.actor.lost(f"was silent for {ANSWER_SECONDS + self.round_limit:.3g} s")
            if self._get_now(call):
                raise call.actor.lost(f"did not finish a step in {self.round_limit:.3g} s")
        if self._is_extended and self.members is not None and self.members.far:
            raise self.members.far[0].leader.lost("did not pass on its sums in time")
        # All have: the sums are on their way.
        self._is_extended, self.round_ends = True, monotonic() + self.step_timeout

    def _answers(self, calls: Sequence[Far], seconds: float) -> dict[int, Any]:
        """What workers answer to calls, by worker, once all have.

        Raises:
            WorkerLost: one is gone, or has not answered in time.
        """
        self._await(calls, seconds)
        return {call.actor.number: self._get_now(call) for call in calls}

    def _await(self, calls: Sequence[Far], seconds: float) -> None:
        end = monotonic() + seconds
        waiting = {call.reference: call.actor for call in calls}
        while waiting:
            for reference in _ready(list(waiting), TICK):
                del waiting[reference]
            self._look()
            if waiting and monotonic() > end:
                raise next(iter(waiting.values())).lost("did not answer in time")

    def _get(self, call: Far) -> Any:
        """What a call gives, once it has ended; as ``_get_now``."""
        while not _ready([call.reference], TICK):
            self._look()
        return self._get_now(call)

    def _get_now(self, call: Far) -> Any:
        """What a call gives that has ended.

        Raises:
            WorkerLost: a worker is gone.
        """
        try:
            return ray.get(call.reference, timeout=END_SECONDS)
        except RayTaskError as error:
            if isinstance(error.cause, RayError):  # what it depends on is gone
                return self._blame(call.actor)
            raise RunError(f"worker {call.actor.number}: {described(error.cause)}") from error
        except RayActorError as error:
            raise self._gone(call.actor, error) from None
        except RuntimeEnvSetupError as error:
            raise RunError(
                f"worker {call.actor.number} cannot start: {' '.join(str(error).split())}"
            ) from None
        except RayError:
            return self._blame(call.actor)

    def _gone(self, actor: Actor, error: RayActorError) -> WorkerLost:
        """The loss that a failed call tells of.

        Raises:
            RunError: it never could start, and another in its place could not either.
        """
        if error.actor_init_failed:
            last = str(error).strip().splitlines()[-1].strip()
            raise RunError(f"worker {actor.number} cannot start on its node: {last}") from None
        if "out of memory" in str(error).lower():
            return actor.lost("was ended because its node was out of memory")
        return actor.lost("is gone")

    def _blame(self, actor: Actor) -> None:
        """Raise WorkerLost for whoever is gone; for the given one where nobody else is."""
        end = monotonic() + NODE_SECONDS
        while monotonic() < end:
            self._look()
            sleep(TICK)
        raise actor.lost("has lost what it computed")

    def _raise_first(self, answers: dict[int, Any]) -> None:
        raise_first({number: each for number, each in answers.items() if each is not None})

    # Who is there

    def _place(self) -> None:
        """Reserve room for the workers, spread over the nodes.

        Raises:
            RunError: there is none in time.
        """
        bundle = {"CPU": float(self.cpus_per_worker)}
        self._placement = placement_group([bundle] * self.workers, strategy="SPREAD")
        if not self._has_room(self.start_timeout):
            raise RunError(
                f"the cluster had no room in {self.start_timeout:g} s for {self.workers} "
                f"workers of {self.cpus_per_worker:g} CPUs each; it has {_resources()}: use "
                f"fewer --workers or --cpus-per-worker, or a larger --start-timeout"
            )
        nodes = placement_group_table(self._placement)["bundles_to_node_id"]
        here = self._node
        # Workers of one node get neighbouring numbers, and so neighbouring shards.
        self._bundles.sort(key=lambda bundle: (nodes[bundle] != here, nodes[bundle], bundle))

    def _create(self, numbers: Iterable[int]) -> None:
        """Start the actors of these numbers."""
        for number in numbers:
            handle = self._actor(number)
            greeted = handle.greet.remote(self._probe.address, self._probe.secret)
            self.actors.append(Actor(number, handle, greeted))
        self.actors.sort(key=lambda actor: actor.number)

    def _actor(self, number: int) -> Any:
        make = ray.remote(RayWorker).options(
            name=f"{self.name}/worker-{number}",
            num_cpus=self.cpus_per_worker,
            max_restarts=0,
            max_concurrency=THREADS,
            runtime_env={"env_vars": ONE_THREAD | {"PYTHONPATH": python_path()}},
            scheduling_strategy=PlacementGroupSchedulingStrategy(
                self._placement, placement_group_bundle_index=self._bundles[number]
            ),
        )
        end = monotonic() + END_SECONDS
        while True:
            try:
                return make.remote()
            except (ValueError, RayError) as error:  # the name is still that of the one before
                if monotonic() > end:
                    raise RunError(f"worker {number} cannot start: {described(error)}") from None
                sleep(TICK)

    def _load(self, lacking: Sequence[Actor], name: str, loaded: Loaded) -> None:
        answers = self._ask(lacking, "load", name, loaded.description, loaded.table)
        self._raise_first(answers)

    def _open(self, name: str, opened: Opened) -> None:
        members = self.members
        assert members is not None
        _, sums = opened.task.sizes(opened.options)
        told = (opened.number, name, opened.options)
        made = self._ask([site.leader for site in members.far], "lead_open", *told)
        calls = []
        if members.near:
            addresses = opened.broadcast.segment.address, members.site.open(opened.number, sums)
            calls += _calls(members.near, "open", *told, *addresses)
        for site in members.far:
            calls += _calls(site.members, "open", *told, *made[site.leader.number])
        self._raise_first(self._answers(calls, UNMEASURED_SECONDS))

    def _ask(self, actors: Sequence[Actor], method: str, *arguments: Any) -> dict[int, Any]:
        """What several workers answer to a call that may take long."""
        self.in_hand = UNMEASURED_SECONDS
        return self._answers(_calls(actors, method, *arguments), UNMEASURED_SECONDS)

    def _join(self) -> None:
        self._replace()
        is_new = all(actor.greeting is None for actor in self.actors)
        self._await_greetings(self.start_timeout if is_new else REPLACE_SECONDS)
        sites = self._sites()
        self.actors = [actor for site in sites for actor in site]
        for actor, held in zip(self.actors, assign(self.shards, len(self.actors)), strict=True):
            actor.held = held
        self._answers(_calls(self.actors, "leave"), self.in_hand)
        near, far = sites[0], sites[1:]
        site = Site(_held(near), self.shards, self.generation)
        try:
            self._join_sites(near, site, far)
        except BaseException:
            site.close()
            raise
        self.members = Membership(near, site, [self._far_site(members) for members in far])

    def _join_sites(self, near: list[Actor], site: Site, far: list[list[Actor]]) -> None:
        """Tell all workers with whom they share memory."""
        calls = self._join_calls(near, site.address)
        leaders = [
            Far(each[0], each[0].handle.lead.remote(_held(each), self.shards, self.generation))
            for each in far
        ]
        addresses = self._answers(leaders, self.start_timeout)
        for members in far:
            calls += self._join_calls(members, addresses[members[0].number])
        self._answers(calls, self.start_timeout)

    def _replace(self) -> None:
        """Start workers in the places of those that are lost, where there is room."""
        missing = set(range(self.workers)) - {actor.number for actor in self.actors}
        if missing and self._has_room(PLACE_SECONDS if self.actors else self.start_timeout):
            self._create(sorted(missing))
        elif not self.actors:
            raise RunError(f"all workers are lost, and the cluster has {_resources()}")

    def _has_room(self, seconds: float) -> bool:
        """Whether there is, within so long, a place for all workers.

        Raises:
            RunError: the driver's own node is gone, so that there never will be.
        """
        end = monotonic() + seconds
        while not self._placement.wait(TICK):
            stopping.check()
            self._check_own_node()
            if monotonic() > end:
                return False
        return True

    def _check_own_node(self) -> None:
        """Raise RunError where this node has no Ray any more, which nothing can be done about."""
        if self._node not in _nodes_alive():
            self._is_cut_off = True
            raise RunError("Ray has ended on the driver's own node")

    def _join_calls(self, members: list[Actor], words: Address) -> list[Far]:
        held = _held(members)
        return [
            Far(actor, actor.handle.join.remote(index, held, self.shards, words))
            for index, actor in enumerate(members)
        ]

    def _far_site(self, members: list[Actor]) -> FarSite:
        together = (shard for actor in members for shard in actor.held)
        return FarSite(members, complete_subtrees(together, self.shards))

    def _sites(self) -> list[list[Actor]]:
        """The workers by the memory they share, the driver's first, which may be nobody's."""
        near: list[Actor] = []
        nodes: dict[str, list[Actor]] = {}
        for actor in self.actors:
            assert actor.greeting is not None
            is_near = actor.greeting["shares"] and actor.node == self._node
            (near if is_near else nodes.setdefault(actor.greeting["node"], [])).append(actor)
        far = []
        for actors in nodes.values():
            leader, *others = actors
            offered = self._ask([leader], "offer")[leader.number] if others else ()
            shares = self._ask(others, "shares", *offered)
            far.append([leader, *(each for each in others if shares[each.number])])
            far += [[each] for each in others if not shares[each.number]]
        return [near, *far]

    def _await_greetings(self, seconds: float) -> None:
        """Wait until workers have started, or for so long.

        Raises:
            WorkerLost: one ended meanwhile.
            RunError: none has started in time.
        """
        end = monotonic() + seconds
        own = arithmetic() | {"host": here()}
        while late := [actor for actor in self.actors if actor.greeting is None]:
            by_reference = {actor.greeted: actor for actor in late}
            for reference in _ready(list(by_reference), TICK):
                actor = by_reference[reference]
                actor.greeting = self._get_now(Far(actor, reference))
                actor.serving = actor.handle.serve.remote()
                self._check(own, actor)
            self._look()
            self._check_own_node()
            if monotonic() > end:
                break
        else:
            return
        self._go_on_without(late, seconds)

    def _check(self, own: dict[str, Any], actor: Actor) -> None:
        """Compare a worker's machine and software with the driver's."""
        assert actor.greeting is not None
        theirs, there = actor.greeting["arithmetic"], actor.greeting["versions"]
        if there != versions() and there not in self._other_versions:
            self._other_versions.add(there)
            where = f"worker {actor.number} on {theirs['host']}"
            warn(f"{where} has {there}, and the driver {versions()}")
        check_same_arithmetic(own, theirs, f"worker {actor.number}", self.allow_mixed_cpus)

    def _go_on_without(self, late: list[Actor], seconds: float) -> None:
        """Let the others hold all shards."""
        for actor in late:
            self._end(actor)
        self.actors = [actor for actor in self.actors if actor not in late]
        numbers = ", ".join(str(actor.number) for actor in late)
        what = f"did not start in {seconds:g} s; the cluster has {_resources()}"
        if not self.actors:
            raise RunError(f"workers {numbers} {what}: give a larger --start-timeout")
        warn(f"worker {numbers} {what}; the others hold all shards")

    def bury(self, loss: WorkerLost) -> list[WorkerLost]:
        if self.members is not None:
            self.members.site.give_up(self.generation)
            self.members.site.close()
        self.members = None
        self._unsettle()
        sleep(TOGETHER_SECONDS)
        losses = {loss.worker: loss}
        ended: set[int] = set()
        while len(ended) < len(losses):  # while one is ended, others may be lost with it
            for actor in self.actors:
                if actor.number in losses and actor.number not in ended:
                    self._end(actor)
                    ended.add(actor.number)
            for actor in self.actors:
                if actor.number not in losses and (other := self._loss_of(actor)) is not None:
                    losses[actor.number] = other
        self.actors = [actor for actor in self.actors if actor.number not in losses]
        return [losses[number] for number in sorted(losses)]

    def _loss_of(self, actor: Actor) -> WorkerLost | None:
        """How a worker was lost with another one; None where it was not."""
        if actor.serving is not None and _ready([actor.serving]):
            return actor.lost("is gone")
        if actor.ping is not None and _ready([actor.ping]):
            actor.ping = None
        if actor.silent_for() > TOGETHER_PART * self.step_timeout:
            return actor.lost(f"was silent for {actor.silent_for():.3g} s")
        return None

    def _end(self, actor: Actor) -> None:
        """See that a worker is gone; one that is stopped outlives what Ray does about it."""
        with suppress(RayError):
            ray.kill(actor.handle, no_restart=True)
        if actor.greeting is None:
            return
        if actor.greeting["shares"]:
            kill_worker(actor.greeting["process"])
        if actor.node != self._node:
            self._kill_elsewhere(actor)
        if actor.serving is not None:
            _ready([actor.serving], END_SECONDS)

    def _kill_elsewhere(self, actor: Actor) -> None:
        """Kill a worker on its node; where that does not answer, wait until it is known as dead."""
        if actor.node not in _nodes_alive():
            return
        strategy = NodeAffinitySchedulingStrategy(actor.node, soft=False)
        kill = ray.remote(kill_worker).options(
            num_cpus=0, max_retries=0, scheduling_strategy=strategy
        )
        assert actor.greeting is not None
        done = kill.remote(actor.greeting["process"])
        end = monotonic() + NODE_SECONDS
        while not _ready([done], TICK) and actor.node in _nodes_alive() and monotonic() < end:
            stopping.check()

    def close(self, at_once: bool = False) -> None:
        for actor in self.actors:
            if actor.greeting is not None and actor.greeting["shares"]:
                kill_worker(actor.greeting["process"])
        if not self._is_cut_off:  # else Ray would wait for what does not come
            for actor in self.actors:
                with suppress(RayError):
                    ray.kill(actor.handle, no_restart=True)
            if self._placement is not None:
                with suppress(RayError):
                    remove_placement_group(self._placement)
        self.actors, self._placement = [], None
        if self.members is not None:
            self.members.site.close()
            self.members = None
        self._forget_all()
        self._probe.close()
        self._cluster.close(self._is_cut_off)


class RayRounds:
    """The rounds of one task opened on a Ray group.

    Attributes:
        opened: the task.
        total: where the total of sums goes that come from other sites alone.
    """

    def __init__(self, group: RayGroup, opened: Opened) -> None:
        _, sums = opened.task.sizes(opened.options)
        self.opened = opened
        self.broadcast = opened.broadcast.vectors
        self.total = Vectors.zeros(sums)
        self._group = group

    def run(self, *position: int) -> Vectors:
        return self._group.run(self, position)


def _join_up(places: dict[Subtree, Any], first: int, stop: int, fetch: Any) -> Any:
    """The sum of a subtree: here when one part of it is, else where its left part is.

    Args:
        places: Vectors of this process, or Far, that cover [first, stop).
        fetch: what gets the latter here.
    """
    if (first, stop) in places:
        return places[first, stop]
    split = middle(first, stop)
    # What is added elsewhere is asked for before anything is waited for here.
    right = _join_up(places, split, stop, fetch)
    left = _join_up(places, first, split, fetch)
    if isinstance(left, Far) and isinstance(right, Far):
        return Far(left.actor, left.actor.handle.add.remote(left.reference, right.reference))
    own, other = (left, right) if isinstance(left, Vectors) else (right, left)
    own.add(fetch(other))
    return own


def _held(members: list[Actor]) -> list[Shards]:
    return [actor.held for actor in members]


def _calls(actors: Sequence[Actor], method: str, *arguments: Any) -> list[Far]:
    """Call a method of several workers."""
    return [Far(each, getattr(each.handle, method).remote(*arguments)) for each in actors]


def _ready(references: list[Any], seconds: float = 0.0) -> list[Any]:
    """Those of the references that are ready, after so many seconds at most."""
    if not references:
        return []
    ready, _ = ray.wait(references, num_returns=len(references), timeout=seconds)
    return list(ready)


def kill_worker(process: int) -> None:
    """Kill a worker's process on this node, unless its number is another's by now."""
    with suppress(OSError):
        with open(f"/proc/{process}/cmdline", "rb") as file:
            is_ours = RayWorker.__name__.encode() in file.read()
        if is_ours:
            os.kill(process, signal.SIGKILL)


def _nodes_alive() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def _resources() -> str:
    """What the cluster has, for messages."""
    whole, free = (
        each.get("CPU", 0) for each in (ray.cluster_resources(), ray.available_resources())
    )
    return f"{whole:g} CPUs on {len(_nodes_alive())} nodes, {free:g} of them free"


def _put(value: Any) -> Any:
    """A reference to a value in the object store.

    Raises:
        RunError: there is no room for it.
    """
    try:
        return ray.put(value)
    except RayError as error:
        raise RunError(f"Ray's object store has no room: {described(error)}") from None


def _table_in_store(dataset: Dataset) -> Any:
    """A table in memory as an Arrow IPC file in the object store; None for files."""
    if not isinstance(dataset.source, TableSource):
        return None
    table = dataset.source.select(dataset.names)
    content = np.empty(table.ipc_size(), np.uint8)
    table.write_ipc(pa.FixedSizeBufferWriter(pa.py_buffer(content.data)))
    return _put(content)
