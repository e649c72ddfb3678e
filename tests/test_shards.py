"""Shards: every row once, batches of exact sizes, and one order of addition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dist_dnn import shards
from dist_dnn.shards import Additions

counts = st.integers(1, 400)
shard_counts = st.integers(1, 20)


@given(counts, shard_counts)
def test_shards_hold_every_row_once_larger_ones_first(m: int, S: int) -> None:
    ranges = [shards.shard_range(m, s, S) for s in range(S)]
    assert [start for start, _ in ranges] == [0, *(stop for _, stop in ranges[:-1])]
    assert ranges[-1][1] == m
    lengths = [stop - start for start, stop in ranges]
    assert lengths == sorted(lengths, reverse=True)
    assert max(lengths) - min(lengths) <= 1


@given(st.integers(0, 400), shard_counts)
def test_rows_before_counts_positions_of_the_shard(position: int, S: int) -> None:
    for s in range(S):
        counted = sum(p % S == s for p in range(position))
        assert shards.rows_before(position, s, S) == counted


@given(counts, st.data(), shard_counts)
def test_batches_take_every_row_once_and_have_exactly_b_rows(
    m: int, data: st.DataObject, S: int
) -> None:
    B = data.draw(st.integers(1, m))
    taken: dict[int, list[int]] = {s: [] for s in range(S)}
    batches = shards.batches_in_epoch(m, B)
    for t in range(batches):
        slices = [shards.batch_slice(t, B, m, s, S) for s in range(S)]
        rows = [stop - start for start, stop in slices]
        assert sum(rows) == (B if t < batches - 1 else m - (batches - 1) * B)
        assert max(rows) - min(rows) <= 1
        for s, (start, stop) in enumerate(slices):
            taken[s] += range(start, stop)
    for s in range(S):
        start, stop = shards.shard_range(m, s, S)
        assert taken[s] == list(range(stop - start))


def test_a_batch_smaller_than_the_shards_leaves_some_without_a_row() -> None:
    rows = [stop - start for start, stop in (shards.batch_slice(1, 3, 10, s, 8) for s in range(8))]
    assert rows == [0, 0, 0, 1, 1, 1, 0, 0]


def test_orders_differ_by_seed_epoch_and_shard_and_by_nothing_else() -> None:
    def order(seed: int, epoch: int, shard: int) -> tuple[int, ...]:
        return tuple(shards.epoch_order(seed, epoch, shard, 50))

    orders = {order(seed, epoch, shard) for seed in (0, 1) for epoch in (1, 2) for shard in (0, 1)}
    assert len(orders) == 8
    assert all(sorted(each) == list(range(50)) for each in orders)
    assert order(0, 1, 0) == order(0, 1, 0)


@given(shard_counts, st.data())
def test_workers_hold_all_shards_between_them(S: int, data: st.DataObject) -> None:
    workers = data.draw(st.integers(1, S))
    held = shards.assign(S, workers)
    assert [shard for each in held for shard in each] == list(range(S))
    assert max(map(len, held)) - min(map(len, held)) <= 1


@pytest.mark.parametrize(("S", "workers", "vectors"), [(8, 1, 1), (8, 2, 1), (8, 4, 1), (8, 8, 1)])
def test_powers_of_two_send_one_vector_a_worker(S: int, workers: int, vectors: int) -> None:
    for held in shards.assign(S, workers):
        assert len(shards.complete_subtrees(held, S)) == vectors


def test_eight_shards_send_four_vectors_at_worst() -> None:
    subsets = [tuple(s for s in range(8) if bits >> s & 1) for bits in range(256)]
    assert max(len(shards.complete_subtrees(held, 8)) for held in subsets) == 4


def tree_sum(values: list[np.float32]) -> np.float32:
    """The sum along the fixed tree, written as the design defines it."""
    if len(values) == 1:
        return values[0]
    split = -(-len(values) // 2)
    return np.float32(tree_sum(values[:split]) + tree_sum(values[split:]))


@given(shard_counts, st.data())
def test_any_holding_adds_up_to_the_bits_of_the_fixed_tree(S: int, data: st.DataObject) -> None:
    holders = data.draw(st.lists(st.integers(0, 4), min_size=S, max_size=S))
    seed = data.draw(st.integers(0, 2**32))
    values = list(np.random.default_rng(seed).normal(0, 1e3, S).astype(np.float32))
    slots: dict[int, np.ndarray] = {}
    places = {}
    for worker in sorted(set(holders)):
        held = tuple(s for s in range(S) if holders[s] == worker)
        additions = Additions(held, S)
        slots[worker] = np.full(additions.slots, np.nan, np.float32)
        for leaf in additions.leaves:
            slots[worker][leaf.slot] = values[leaf.shard]
            for into, other in leaf.additions:
                slots[worker][into] += slots[worker][other]
        for subtree, slot in additions.subtrees.items():
            places[subtree] = (worker, slot)
    joining, (worker, slot) = shards.joining_additions(places, 0, S)
    for (into, to), (other, source) in joining:
        slots[into][to] += slots[other][source]
    assert slots[worker][slot] == tree_sum(values)


@given(st.integers(1, 128), st.data())
def test_few_slots_suffice(S: int, data: st.DataObject) -> None:
    """With what is broadcast, a worker has 3 + ⌈log2 of the shards it holds⌉ vectors at most."""
    for held in shards.assign(S, data.draw(st.integers(1, S))):
        assert Additions(held, S).slots <= 2 + np.ceil(np.log2(len(held)))
