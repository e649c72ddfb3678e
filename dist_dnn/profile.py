"""The profile: where the time of the driver and of each worker goes, and workers' memory."""

from collections.abc import Iterable, Mapping
from time import perf_counter
from typing import Any

from dist_dnn.account import ACCOUNT, MEMORY, PHASES
from dist_dnn.rounds import Group, Options, ShardTask, Sizes, Vectors

NUMBERS = 1 + len(PHASES) + len(MEMORY)
"""Of an account, the identity among them."""


class Accounts(ShardTask):
    """One round: each worker tells its account, in the place of the lowest shard that it holds.

    Options: shards.
    """

    @classmethod
    def sizes(cls, options: Options) -> tuple[Sizes, Sizes]:
        return Sizes(0, 0), Sizes(0, options["shards"] * NUMBERS)

    def shard_sums(self, shard: int, position: tuple[int, ...], sums: Vectors) -> None:
        sums.double.fill(0)
        if shard == min(leaf.shard for leaf in self.exchange.additions.leaves):
            sums.double[shard * NUMBERS : (shard + 1) * NUMBERS] = ACCOUNT.numbers()


Spent = dict[str, Any]
"""What a stretch of a training took, as ``status.json`` has it.

``steps``: how many it had; ``driver``: seconds in rounds (asking for sums and waiting for them), of
the update, and other ones; ``workers``: each one's seconds by phase; ``memory``: each one's bytes.
Where a worker is lost, the next one has its place from then on.
"""


class Profile:
    """Reads the accounts of the driver and of a group's workers, stretch by stretch."""

    def __init__(self, group: Group) -> None:
        self._steps = 0
        self._rounds_seconds = self._update_seconds = 0.0
        self._since = perf_counter()
        self._group = group
        self._rounds = group.open(Accounts, {"shards": group.shards})
        self._before: dict[float, list[float]] = {}
        self._so_far = added_up([])
        self.read()

    def stepped(self, rounds: float, update: float) -> None:
        """Take note of the driver's seconds in a step."""
        self._steps += 1
        self._rounds_seconds += rounds
        self._update_seconds += update

    def so_far(self) -> Spent:
        """What has been spent since the beginning."""
        self._so_far = added_up([self._so_far, self.read()])
        return self._so_far

    def read(self) -> Spent:
        """What workers spent since the time before; of one that is new, since it started."""
        total = self._group.surviving(self._rounds.run).double
        accounts = {who: each for who, *each in total.reshape(-1, NUMBERS).tolist() if who}
        workers, memory = [], []
        for who, account in accounts.items():
            workers.append(_seconds(account, self._before.get(who, [0.0] * len(account))))
            held = (int(each) for each in account[len(PHASES) :])
            memory.append(dict(zip(MEMORY, held, strict=True)))
        self._before = accounts
        steps, self._steps = self._steps, 0
        driver = _rounded(self._driver())
        return {"steps": steps, "driver": driver, "workers": workers, "memory": memory}

    def _driver(self) -> dict[str, float]:
        now = perf_counter()
        rounds, update = self._rounds_seconds, self._update_seconds
        other = now - self._since - rounds - update
        self._rounds_seconds, self._update_seconds, self._since = 0.0, 0.0, now
        return {"rounds": rounds, "update": update, "other": other}


def _seconds(now: list[float], then: list[float]) -> dict[str, float]:
    """A worker's seconds by phase, between two accounts of it."""
    spent = {name: 1e-9 * (n - t) for name, n, t in zip(PHASES, now, then, strict=False)}
    return _rounded(spent)


def added_up(stretches: Iterable[Spent]) -> Spent:
    """Several stretches as one: their seconds added, and the most memory."""
    total: Spent = {"steps": 0, "driver": {}, "workers": [], "memory": []}
    for stretch in stretches:
        total["steps"] += stretch["steps"]
        _add(total["driver"], stretch["driver"])
        for kind, add in (("workers", _add), ("memory", _take_most)):
            missing = len(stretch[kind]) - len(total[kind])
            total[kind] += [{} for _ in range(missing)]
            for into, other in zip(total[kind], stretch[kind], strict=False):
                add(into, other)
    return total


def _add(into: dict[str, float], other: dict[str, float]) -> None:
    for name, seconds in other.items():
        into[name] = into.get(name, 0.0) + seconds


def _take_most(into: dict[str, float], other: dict[str, float]) -> None:
    for name, size in other.items():
        into[name] = max(into.get(name, 0), size)


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    """To the microsecond."""
    return {name: round(each, 6) for name, each in seconds.items()}
