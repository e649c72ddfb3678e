"""Held-out rows: always the same ones, however they are asked for."""

import json
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dist_dnn.data.holdout import HASHED_ROWS, Rows, held_out, held_out_by_class, random_bits

seeds = st.integers(0, 2**70)
fractions = st.floats(0.001, 0.999)
totals = st.integers(0, 3 * HASHED_ROWS + 5)


def test_the_hash_is_splitmix64() -> None:
    # The published first outputs of splitmix64.c for this seed.
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert random_bits(1234567, 0, 5).tolist() == expected
    assert random_bits(1234567 + 2**64, 3, 5).tolist() == expected[3:]


def test_the_same_rows_for_ever() -> None:
    assert np.flatnonzero(held_out(0, 0.1, 0, 60)).tolist() == [2, 32, 33, 41, 42, 43, 53]
    assert np.flatnonzero(held_out(1, 0.1, 0, 60)).tolist() == [20, 21, 25, 28, 55]


@given(seed=seeds, fraction=fractions, cuts=st.lists(st.integers(0, 500), max_size=5))
def test_held_out_does_not_depend_on_chunks(seed: int, fraction: float, cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), 500]
    pieces = [held_out(seed, fraction, *pair) for pair in pairwise(bounds)]
    assert np.array_equal(np.concatenate(pieces), held_out(seed, fraction, 0, 500))


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.9])
def test_about_the_fraction_is_held_out(fraction: float) -> None:
    m = 100_000
    deviation = np.sqrt(m * fraction * (1 - fraction))
    assert abs(int(held_out(3, fraction, 0, m).sum()) - m * fraction) < 4 * deviation


def test_a_greater_fraction_holds_out_the_same_rows_and_more() -> None:
    fewer, more = held_out(5, 0.1, 0, 10_000), held_out(5, 0.2, 0, 10_000)
    assert (more | ~fewer).all()
    assert more.sum() > fewer.sum()


@given(total=totals, seed=seeds, fraction=fractions, data=st.data())
def test_numbers_are_the_selected_rows(
    total: int, seed: int, fraction: float, data: st.DataObject
) -> None:
    is_held_out = held_out(seed, fraction, 0, total)
    for rows, expected in (
        (Rows.all(total), np.arange(total)),
        (Rows.kept(total, seed, fraction), np.flatnonzero(~is_held_out)),
        (Rows.held_out(total, seed, fraction), np.flatnonzero(is_held_out)),
    ):
        assert rows.count == len(expected)
        first = data.draw(st.integers(0, rows.count))
        last = data.draw(st.integers(first, rows.count))
        numbers = rows.numbers(first, last)
        assert numbers.dtype == np.int64
        assert np.array_equal(numbers, expected[first:last])
        assert np.array_equal(np.flatnonzero(rows.mask(0, total)), expected)


@given(total=totals, seed=seeds, fraction=fractions)
def test_description_round_trip(total: int, seed: int, fraction: float) -> None:
    for rows in (
        Rows.all(total),
        Rows.kept(total, seed, fraction),
        Rows.held_out(total, seed, fraction),
    ):
        text = json.dumps(rows.description())
        assert Rows.from_description(json.loads(text)) == rows
        assert len(text) < 200


@pytest.mark.parametrize(("first", "last"), [(-1, 2), (3, 2), (0, 11)])
def test_positions_outside(first: int, last: int) -> None:
    with pytest.raises(IndexError, match="of 10 selected rows"):
        Rows.all(10).numbers(first, last)


def test_few_rows_of_many_take_little_memory() -> None:
    rows = Rows.kept(5_000_000, 0, 0.5)
    tracemalloc.start()
    try:
        rows.numbers(1_000_000, 1_000_010)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000


@given(mask=st.lists(st.booleans(), min_size=1, max_size=70), data=st.data())
def test_marked_rows(mask: list[bool], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(mask)))
    stop = data.draw(st.integers(start, len(mask)))
    for rows, selected in zip(
        Rows.marked(np.array(mask)), (~np.array(mask), np.array(mask)), strict=True
    ):
        assert rows.count == selected.sum()
        assert rows.numbers(0, rows.count).tolist() == np.flatnonzero(selected).tolist()
        assert rows.mask(start, stop).tolist() == selected[start:stop].tolist()
        assert Rows.from_description(json.loads(json.dumps(rows.description()))) == rows


@given(
    seed=seeds,
    fraction=fractions,
    amounts=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    order=st.integers(0, 99),
)
def test_the_fraction_of_each_class(
    seed: int, fraction: float, amounts: list[int], order: int
) -> None:
    classes = np.repeat(np.arange(len(amounts), dtype=np.int32), amounts)
    np.random.default_rng(order).shuffle(classes)
    mask = held_out_by_class(seed, fraction, classes)
    bits = random_bits(seed, 0, len(classes))
    for number, amount in enumerate(amounts):
        held = min(int(np.floor(fraction * amount + 0.5)), amount - 1)
        lowest = np.sort(bits[classes == number])[:held]
        assert np.array_equal(np.sort(bits[mask & (classes == number)]), lowest)


def test_classes_of_many_rows() -> None:
    m = 2 * HASHED_ROWS + 77
    classes = np.random.default_rng(0).integers(0, 3, m).astype(np.int32)
    fewer, more = (held_out_by_class(3, fraction, classes) for fraction in (0.1, 0.25))
    for number in range(3):
        count = np.count_nonzero(classes == number)
        assert np.count_nonzero(fewer & (classes == number)) == round(0.1 * count)
    assert (more | ~fewer).all()
