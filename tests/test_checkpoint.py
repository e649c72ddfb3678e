"""Checkpoints: what they hold, which stay, and that damaged ones are passed over."""

import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dist_dnn.checkpoint import (
    CHECKSUM,
    METRICS,
    STATE,
    Surroundings,
    checkpoint_files,
    file_of,
    newest_checkpoint,
    read_checkpoint,
    remove_checkpoints,
    write_checkpoint,
)
from dist_dnn.errors import InputError
from dist_dnn.state import TrainingState
from dist_dnn.storage import CHECKPOINTS, LocalFolder, Unsound

SURROUNDINGS = Surroundings(
    {"target": "digit", "learning_rate": 0.1},
    {"features": {"mean": [1 / 3]}, "target": {}},
    {"training": {"rows": 3}},
    {"numpy": "2"},
    {"probe": "x"},
)


def a_state(step: int = 7, losses: dict[int, float] | None = None) -> TrainingState:
    draws = np.random.default_rng(step)
    names = ("parameters", "optimizer.sum", "epoch_start.parameters")
    state = TrainingState(
        {name: draws.normal(size=100).astype(np.float32) for name in names}, batches=4
    )
    state.epoch, state.batch = step // 4 + 1, step % 4
    state.sums[:] = 1 / 3, 1e300, 2**53 - 1
    state.seconds = 0.1
    state.learning_rate_factor = 0.25
    state.rollbacks = [{"epoch": 1, "why": "ä"}]
    state.history = [
        {"epoch": step // 4, "step": step, "validation_loss": loss}
        for step, loss in (losses or {4: 1 / 7}).items()
    ]
    return state


@pytest.fixture
def run(tmp_path: Path) -> LocalFolder:
    """The folder of a run without files."""
    (tmp_path / CHECKPOINTS).mkdir()
    return LocalFolder(tmp_path)


def path_of(run: LocalFolder, step: int) -> Path:
    return run.path / file_of(step)


def written(run: LocalFolder, state: TrainingState) -> None:
    metrics = "".join(f"{json.dumps(each)}\n" for each in state.history)
    write_checkpoint(run, state, metrics, SURROUNDINGS)


def same(one: TrainingState, other: TrainingState) -> bool:
    plain = [(each.to_json(), each.history) for each in (one, other)]
    return plain[0] == plain[1] and {
        name: vector.tobytes() for name, vector in one.vectors.items()
    } == {name: vector.tobytes() for name, vector in other.vectors.items()}


def test_everything_comes_back(run: LocalFolder) -> None:
    state = a_state()
    written(run, state)
    assert os.listdir(run.path / CHECKPOINTS) == ["step-0000000007.safetensors"]
    read = read_checkpoint(run, file_of(7))
    assert read.surroundings == SURROUNDINGS
    assert same(read.state, state)
    assert read.state.step == 7


def test_a_state_becomes_another_in_its_own_memory() -> None:
    state, other = a_state(7), a_state(9, {4: 1.0, 8: 2.0})
    vectors = dict(state.vectors)
    state.restore(other)
    assert same(state, other)
    assert all(state.vectors[name] is vector for name, vector in vectors.items())
    assert same(state.copy(), state)
    state.history.append({})
    assert len(other.history) == 2


def test_going_back_to_where_the_epoch_began() -> None:
    state = a_state(7)
    before = state.vectors["epoch_start.parameters"].copy()
    state.go_back()
    assert (state.epoch, state.batch, state.step) == (2, 0, 4)
    assert np.array_equal(state.vectors["parameters"], before)
    assert not state.sums.any()
    assert len(state.rollbacks) == 1


def test_a_checkpoint_cut_short_anywhere_is_unsound(run: LocalFolder) -> None:
    written(run, a_state())
    path = path_of(run, 7)
    whole = path.read_bytes()
    for size in (0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(Unsound):
            read_checkpoint(run, file_of(7))


def test_a_checkpoint_altered_anywhere_is_unsound(run: LocalFolder) -> None:
    written(run, a_state())
    path = path_of(run, 7)
    whole, source = path.read_bytes(), random.Random(0)
    refused = 0
    for place in source.sample(range(len(whole)), min(1500, len(whole))):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << source.randrange(8)
        path.write_bytes(damaged)
        try:
            read = read_checkpoint(run, file_of(7))
        except Unsound:
            refused += 1
        else:  # white space of the header, say
            assert same(read.state, a_state())
            assert read.surroundings == SURROUNDINGS
    assert refused > 1400


@pytest.mark.parametrize(
    "change",
    [
        lambda vectors, metadata: vectors.pop("optimizer.sum"),
        lambda vectors, metadata: vectors.update(other=np.zeros(3, np.float32)),
        lambda vectors, metadata: vectors["parameters"].put(3, 1e-20),
        lambda vectors, metadata: metadata.update({STATE: metadata[STATE].replace("0.25", "0.5")}),
        lambda vectors, metadata: metadata.update({METRICS: ""}),
        lambda vectors, metadata: metadata.update(more=""),
        lambda vectors, metadata: metadata.pop(CHECKSUM),
        lambda vectors, metadata: metadata.pop(STATE),
    ],
)
def test_a_file_of_other_content_is_unsound(change: Any, run: LocalFolder) -> None:
    from safetensors import safe_open

    written(run, a_state())
    path = path_of(run, 7)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    vectors = load_file(path)
    save_file(vectors, path, metadata)
    assert same(read_checkpoint(run, file_of(7)).state, a_state())
    change(vectors, metadata)
    save_file(vectors, path, metadata)
    with pytest.raises(Unsound, match="checksum"):
        read_checkpoint(run, file_of(7))


def test_damaged_ones_are_passed_over(run: LocalFolder) -> None:
    for step in (3, 5, 1000):
        written(run, a_state(step))
    (run.path / CHECKPOINTS / "step-99999999999.safetensors").write_bytes(b"no")
    (run.path / CHECKPOINTS / "step-0099999999.safetensors").mkdir()
    path_of(run, 1000).write_bytes(path_of(run, 1000).read_bytes()[:-3])
    (run.path / CHECKPOINTS / "notes.txt").write_text("mine")
    checkpoint, [first, second] = newest_checkpoint(run)
    assert checkpoint.state.step == 5
    assert first.startswith(f"{run.path}/checkpoints/step-99999999999.safetensors is passed over: ")
    assert second.startswith(f"{path_of(run, 1000)} is passed over: it is truncated")


def test_none_that_is_sound_is_an_error(run: LocalFolder) -> None:
    with pytest.raises(InputError, match="has no checkpoints"):
        newest_checkpoint(run)
    for step in (3, 5):
        path_of(run, step).write_bytes(b"")
    with pytest.raises(InputError, match=r"none of the 2 checkpoints .*step-0000000005.*truncated"):
        newest_checkpoint(run)


def test_other_tools_read_a_checkpoint_as_any_file(run: LocalFolder) -> None:
    state = a_state()
    written(run, state)
    vectors = load_file(path_of(run, 7))
    assert {name: each.tobytes() for name, each in vectors.items()} == {
        name: each.tobytes() for name, each in state.vectors.items()
    }
    (run.path / CHECKPOINTS / "other").touch()
    assert path_of(run, 7).stat().st_mode == (run.path / CHECKPOINTS / "other").stat().st_mode


@pytest.mark.parametrize(
    ("losses", "last", "keep", "stay"),
    [
        ({}, 40, 3, [32, 36, 40]),
        ({}, 40, 1, [40]),
        ({}, 40, None, [4, 8, 12, 16, 20, 24, 28, 32, 36, 40]),
        ({}, 20, 2, [16, 20]),
        ({4: 2.0, 8: 1.0, 12: 1.5}, 40, 2, [8, 36, 40]),
        ({4: 1.0, 8: 1.0}, 40, 1, [4, 40]),
        ({36: 2.0, 40: 1.0}, 40, 2, [36, 40]),
        ({4: 1.0}, 40, 99, [4, 8, 12, 16, 20, 24, 28, 32, 36, 40]),
    ],
)
def test_the_newest_and_the_best_stay(
    losses: dict[int, float], last: int, keep: int | None, stay: list[int], run: LocalFolder
) -> None:
    for step in range(4, 41, 4):
        path_of(run, step).touch()
    (run.path / CHECKPOINTS / "notes.txt").touch()
    history = a_state(last, losses).history if losses else []
    remove_checkpoints(run, history, last, keep)
    assert checkpoint_files(run) == {step: file_of(step) for step in stay}
    assert (run.path / CHECKPOINTS / "notes.txt").exists()
