"""The learning rate of each step, against values worked out by hand."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dist_dnn.nn.schedules import SCHEDULES, make_schedule

ALPHA = 0.8


def rates(name, steps, **settings):
    """The rates of steps 1, 2, … for 5 epochs of 4 steps, unless the settings say otherwise."""
    settings = {"learning_rate": ALPHA, "steps_per_epoch": 4, "epochs": 5} | settings
    schedule = make_schedule(name, **settings)
    return [schedule(step) for step in range(1, steps + 1)]


def test_constant():
    assert rates("constant", 20) == [ALPHA] * 20


def test_step_drops_every_so_many_epochs():
    expected = [ALPHA] * 8 + [ALPHA / 4] * 8 + [ALPHA / 16] * 4
    assert rates("step", 20, every=2, factor=0.25) == pytest.approx(expected, rel=1e-15)


def test_cosine_falls_to_zero_at_the_last_step():
    cosine = rates("cosine", 22)
    assert cosine[9] == pytest.approx(ALPHA / 2)
    assert cosine[4] == pytest.approx(ALPHA * (1 + math.sqrt(0.5)) / 2)
    assert all(above > below for above, below in pairwise(cosine[:20]))
    assert cosine[19:] == [0, 0, 0]


def test_cosine_after_a_warm_up():
    cosine = rates("cosine", 20, warmup_steps=4)
    assert cosine[:4] == pytest.approx([ALPHA / 4, ALPHA / 2, 3 * ALPHA / 4, ALPHA])
    assert cosine[11] == pytest.approx(ALPHA / 2)
    assert cosine[19] == 0


def test_step_drops_while_it_warms_up():
    expected = [ALPHA * 1 / 6, ALPHA * 2 / 6, ALPHA * 3 / 6, ALPHA * 4 / 6]
    expected += [ALPHA * 5 / 6 / 2, ALPHA / 2, ALPHA / 2, ALPHA / 2]
    assert rates("step", 8, every=1, factor=0.5, warmup_steps=6) == pytest.approx(expected)


@given(
    st.sampled_from(SCHEDULES),
    st.integers(1, 30),
    st.integers(0, 10),
    st.integers(0, 60),
    st.integers(1, 400),
)
def test_rates_are_python_floats_within_bounds(name, steps_per_epoch, epochs, warmup_steps, step):
    """Also where the warm-up is longer than the schedule, and beyond its end."""
    schedule = make_schedule(
        name,
        learning_rate=ALPHA,
        steps_per_epoch=steps_per_epoch,
        epochs=epochs,
        warmup_steps=warmup_steps,
    )
    rate = schedule(step)
    assert type(rate) is float
    assert 0 <= rate <= ALPHA * min(1, step / max(warmup_steps, 1))


def test_unknown_schedule():
    with pytest.raises(ValueError, match="unknown schedule 'linear'"):
        rates("linear", 1)
