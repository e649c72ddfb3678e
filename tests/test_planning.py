"""The model of a step on many workers, its units, and what the command plan prints."""

import argparse
import json
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from mpi import needs_mpi

from dist_dnn.front import quantities
from dist_dnn.front.cli import run
from dist_dnn.front.measuring import MOST_NUMBERS, MOST_PARAMETERS, _least_squares, measurable
from dist_dnn.front.planning import (
    HALF,
    Core,
    Exchange,
    Memory,
    Planner,
    Reach,
    Wires,
    Work,
    numbers_of_workers,
    rows_and_blocks,
)
from dist_dnn.nn.network import Network
from dist_dnn.shards import BLOCK_ROWS, assign, batch_slice

ROOT = Path(__file__).parents[1]
NETWORK = Network((784, 512, 256, 10), loss="half_squared_error")

times = st.floats(0, 1e-2)
cores = st.builds(
    Core,
    flops=st.floats(1e8, 1e12),
    call=times,
    block=times,
    row=st.floats(0, 1e-4),
    addition=st.floats(0, 1e-7),
    update=st.floats(0, 1e-7),
)
wires = st.builds(Wires, bandwidth=st.floats(1e5, 1e12), latency=times)
reaches = wires | st.builds(Memory, round=times, crowding=st.floats(1, 3))
works = st.builds(
    Work,
    parameters=st.integers(1, 10**8),
    row_flops=st.integers(1, 10**9),
    batch_size=st.integers(1, 10**6),
    shards=st.integers(1, 40),
)


def seconds(work: Work, core: Core, reach: Reach, workers: int) -> float:
    return Planner(work, core, reach).predict(workers).seconds


# The model


def test_the_work_of_a_row_is_that_of_its_products() -> None:
    work = Work.of(NETWORK, 512, 8)
    forward_and_dW = 2 * 2 * (784 * 512 + 512 * 256 + 256 * 10)
    backward = 2 * (512 * 256 + 256 * 10)
    assert work.row_flops == forward_and_dW + backward
    assert work.parameters == NETWORK.parameter_count


@given(works, st.data())
def test_the_busiest_worker_has_the_first_shards(work: Work, draw: st.DataObject) -> None:
    workers = draw.draw(st.integers(1, work.shards))

    def rows(shard: int) -> int:
        first, stop = batch_slice(0, work.batch_size, work.batch_size, shard, work.shards)
        return stop - first

    held = assign(work.shards, workers)
    most, blocks = rows_and_blocks(work, len(held[0]))
    assert len(held[0]) == -(-work.shards // workers)
    assert most == max(sum(map(rows, each)) for each in held)
    assert blocks == sum(-(-rows(shard) // BLOCK_ROWS) for shard in held[0])


@given(works, cores, reaches, st.data())
def test_workers_are_no_better_than_proportional(
    work: Work, core: Core, reach: Reach, draw: st.DataObject
) -> None:
    workers = draw.draw(st.integers(1, work.shards))
    planner = Planner(work, core, reach)
    prediction = planner.predict(workers)
    assert 0 < prediction.efficiency <= 1 + 1e-9
    alone = planner.predict(1)
    assert alone.efficiency == 1
    assert prediction.efficiency == pytest.approx(alone.seconds / workers / prediction.seconds)


@given(works, cores, reaches)
def test_one_worker_sends_nothing(work: Work, core: Core, reach: Reach) -> None:
    alone = Planner(work, core, reach).predict(1)
    assert (alone.sent, alone.received, alone.driver_sent, alone.driver_received) == (0, 0, 0, 0)
    assert alone.reduce == 0
    if isinstance(reach, Wires):
        assert alone.broadcast == 0


@given(works, cores, wires, st.floats(1, 100), st.data())
def test_better_networks_and_cores_take_no_longer(
    work: Work, core: Core, reach: Wires, factor: float, draw: st.DataObject
) -> None:
    workers = draw.draw(st.integers(1, work.shards))
    before = seconds(work, core, reach, workers) * (1 + 1e-9)
    assert (
        seconds(work, core, replace(reach, bandwidth=reach.bandwidth * factor), workers) <= before
    )
    assert seconds(work, core, replace(reach, latency=reach.latency / factor), workers) <= before
    assert seconds(work, replace(core, flops=core.flops * factor), reach, workers) <= before


@given(works, cores, reaches, st.data())
def test_scaling_pays_from_the_smallest_batch_that_is_said(
    work: Work, core: Core, reach: Reach, draw: st.DataObject
) -> None:
    assume(work.shards > 1)
    workers = draw.draw(st.integers(2, work.shards))
    planner = Planner(work, core, reach)

    def predicted(batch_size: int, workers: int) -> Any:
        return Planner(replace(work, batch_size=batch_size), core, reach).predict(workers)

    efficient, faster = planner.efficient_from(workers), planner.faster_from(workers)
    if efficient is not None:
        assert efficient % work.shards == 0
        assert predicted(efficient, workers).efficiency >= HALF * (1 - 1e-9)
        if efficient > work.shards:
            assert predicted(efficient - work.shards, workers).efficiency <= HALF * (1 + 1e-9)
    if faster is not None:
        assert faster % work.shards == 0
        assert predicted(faster, workers).seconds < predicted(faster, 1).seconds
        if faster > work.shards:
            before = faster - work.shards
            assert predicted(before, workers).seconds >= predicted(before, 1).seconds


def test_seconds_are_those_of_the_formulas() -> None:
    P, F, N, S = NETWORK.parameter_count, Work.of(NETWORK, 1, 1).row_flops, 4, 8
    core = Core(flops=1e11, call=1e-5, block=1e-4, row=1e-6, addition=1e-10, update=1e-9)
    a, b = 5e-5, 1.25e9
    step = Planner(Work.of(NETWORK, 512, S), core, Wires(b, a)).predict(N)
    assert step.compute == pytest.approx(1e-5 + 2 * 1e-4 + 128 * (F / 1e11 + 1e-6) + P * 1e-10)
    V = 4 * P
    assert step.broadcast == pytest.approx(
        2 * a + min(2 * (a + V / b), (2 + 3) * a + 2 * 3 / 4 * V / b)
    )
    slices = Exchange(P, S, N).slices
    reports = 3 * 8 * (1 + 3)
    exchanged = 4 * max(P - min(slices), 3 * max(slices))
    gathered = 4 * (P - slices[0])
    assert step.reduce == pytest.approx(
        3 * 3 * a + (reports + exchanged + gathered) / b + 3 * max(slices) * 1e-10
    )
    assert step.update == pytest.approx(P * 1e-9)
    assert step.seconds == step.compute + step.broadcast + step.reduce + step.update


def test_powers_of_two_lead_to_the_workers() -> None:
    assert list(numbers_of_workers(1)) == [1]
    assert list(numbers_of_workers(6)) == [1, 2, 4, 6]
    assert list(numbers_of_workers(8)) == [1, 2, 4, 8]


# Bytes


@given(st.integers(1, 10**7), st.integers(1, 40), st.data())
def test_what_is_sent_is_received(parameters: int, shards: int, draw: st.DataObject) -> None:
    workers = draw.draw(st.integers(1, shards))
    exchange = Exchange(parameters, shards, workers)
    assert sum(exchange.slices) == parameters
    sent, received = zip(*exchange.exchanged_bytes, strict=True)
    assert sum(sent) == sum(received)
    # Every slice of every subtree goes to who finishes it, but for those that are there already.
    there = sum(own * n for own, n in zip(exchange.subtrees, exchange.slices, strict=True))
    assert sum(sent) == 4 * (parameters * sum(exchange.subtrees) - there)


COUNT = """
import json, sys
import mpi4py
mpi4py.rc.initialize = False
import numpy as np
from dist_dnn.rounds import Sizes, Vectors
from dist_dnn.shards import assign, complete_subtrees
from workers.mpi_sums import Layout, Reports, Slices

class Team:
    def __init__(self, index, size):
        self.index, self.size, self.drives = index, size, index == 0
        self.others = range(1, size)
        self.sent = self.received = self.gathered = self.reported = 0
    def exchange(self, sent, received):
        self.sent += 4 * sum(sent[1])
        self.received += 4 * sum(received[1])
    def gather(self, piece, into):
        self.gathered += 0 if self.drives else piece.nbytes
    def report(self, numbers):
        self.reported += numbers.nbytes

P, S, N = map(int, sys.argv[1:])
held = assign(S, N)
subtrees = [complete_subtrees(each, S) for each in held]
found = []
for index in range(N):
    team = Team(index, N)
    kept = {each: Vectors.zeros(Sizes(P, 3)) for each in subtrees[index]}
    layout = Layout(team, subtrees, kept, Sizes(P, 3), S)
    list(Slices(layout).add_up())
    if index > 0:
        Reports(layout).send()
    found.append([team.sent, team.received, team.gathered, team.reported])
print(json.dumps(found))
"""


@needs_mpi
@pytest.mark.parametrize(
    ("parameters", "shards", "workers"), [(535_818, 8, 2), (535_818, 8, 3), (6_570, 13, 5)]
)
def test_bytes_are_those_that_mpi_is_given(parameters: int, shards: int, workers: int) -> None:
    counted = json.loads(
        subprocess.run(
            [sys.executable, "-c", COUNT, *map(str, (parameters, shards, workers))],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    exchange = Exchange(parameters, shards, workers)
    assert [tuple(each[:2]) for each in counted] == exchange.exchanged_bytes
    assert sum(gathered for _, _, gathered, _ in counted) == exchange.gathered_bytes
    assert [reported for *_, reported in counted[1:]] == exchange.report_bytes[1:]
    sent = max(out + gathered + reported for out, _, gathered, reported in counted[1:])
    received = 4 * parameters + max(into for _, into, _, _ in counted[1:])
    assert exchange.worker_bytes == (sent, received)


# Measuring


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=6))
def test_what_is_measured_is_small(layers: list[int]) -> None:
    smaller = measurable(tuple(layers))
    assert sum((a + 1) * b for a, b in pairwise(smaller)) <= MOST_PARAMETERS
    assert smaller[0] * smaller[-1] <= MOST_NUMBERS
    assert all(1 <= a <= b for a, b in zip(smaller, layers, strict=True))
    assert measurable(smaller) == smaller


def test_no_factor_is_below_0() -> None:
    terms = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 4.0]])
    assert _least_squares(terms, terms @ [3.0, 0.5]) == pytest.approx([3.0, 0.5])
    assert _least_squares(terms, terms @ [3.0, -0.5])[1] == 0
    assert _least_squares(terms, np.full(3, -1.0)) == [0, 0]


# Units


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10Gb/s", 1.25e9),
        ("10Gbit/s", 1.25e9),
        ("1.25GB/s", 1.25e9),
        ("100Mb/s", 1.25e7),
        ("8b/s", 1.0),
        ("1e3 kB/s", 1e6),
    ],
)
def test_bandwidths(text: str, value: float) -> None:
    assert quantities.bandwidth(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("50us", 5e-5), ("50µs", 5e-5), ("50μs", 5e-5), ("1ms", 1e-3), ("20ns", 2e-8), ("0s", 0)],
)
def test_latencies(text: str, value: float) -> None:
    assert quantities.latency(text) == pytest.approx(value)


def test_rates() -> None:
    assert quantities.rate("90GFLOP/s") == pytest.approx(9e10)
    assert quantities.rate("1.2TFLOP/s") == pytest.approx(1.2e12)


@pytest.mark.parametrize(
    "text", ["", "10", "Gb/s", "10Gb", "10GB/s!", "-1Gb/s", "nanGb/s", "1e999b/s", "1e300Tb/s"]
)
def test_what_is_no_bandwidth(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="10Gb/s"):
        quantities.bandwidth(text)


# The command

FOR_OTHERS = (
    *("plan", "784", "512", "256", "10", "--batch-size", "8192", "--workers", "6"),
    *("--bandwidth", "10Gb/s", "--latency", "50us", "--flops", "90GFLOP/s"),
)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_the_table_has_a_row_for_each_number_of_workers(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, *FOR_OTHERS)
    lines = out.splitlines()
    assert lines[0] == "784-512-256-10, 535,818 parameters; batches of 8,192 in 8 shards; adam"
    assert "90.0 GFLOP/s" in lines[1]
    assert "given" in lines[1]
    assert "10 Gb/s and 50 µs" in lines[2]
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines[4:9]]
    assert rows[0][:4] == ["workers", "step ms", "examples/s", "efficiency"]
    assert [row[0] for row in rows[1:]] == ["1", "2", "4", "6"]
    assert rows[1][3] == "100%"
    assert "6 workers have an efficiency of at least 50% from batches of" in out
    assert "6 workers are faster than one from batches of" in out


def test_json_has_what_the_model_says(capsys: pytest.CaptureFixture[str]) -> None:
    result = json.loads(printed(capsys, *FOR_OTHERS, "--json"))
    assert result["layers"] == [784, 512, 256, 10]
    assert result["shards"] == 8
    reach = result["reach"]
    assert reach.pop("kind") == "network"
    assert reach == pytest.approx({"bandwidth": 1.25e9, "latency": 5e-5})
    assert result["core"]["measured"] is False
    core = {name: result["core"][name] for name in Core.__dataclass_fields__}
    work = Work.of(NETWORK, 8192, 8)
    planner = Planner(work, Core(**core), Wires(**reach))
    for row in result["predictions"]:
        prediction = planner.predict(row["workers"])
        assert row["step_ms"] == pytest.approx(1e3 * prediction.seconds)
        assert row["sent_bytes"] == prediction.sent
        parts = (row[f"{part}_ms"] for part in ("compute", "broadcast", "reduce", "update"))
        assert row["step_ms"] == pytest.approx(sum(parts))
    assert result["efficient_from"] == planner.efficient_from(6)
    assert result["faster_from"] == planner.faster_from(6)
    assert "verified" not in result


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure for a moment: what comes of it is looked at, and not whether it is right."""
    monkeypatch.setattr("dist_dnn.front.timing.SECONDS", 0.01)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("outputs", ["1", "2", "3"])
def test_a_plan_for_this_machine_is_measured(
    outputs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = ("plan", "5", "4", outputs, "--batch-size", "3", "--workers", "1", "--shards", "2")
    result = json.loads(printed(capsys, *plan, "--json"))
    assert result["core"]["measured"] is True
    assert result["core"]["flops"] > 0
    assert result["core"]["extrapolated"] == []
    assert result["reach"]["kind"] == "memory"
    assert result["efficient_from"] is result["faster_from"] is None


@pytest.mark.usefixtures("soon")
def test_a_verification_has_both_times(capsys: pytest.CaptureFixture[str]) -> None:
    plan = ("plan", "5", "4", "3", "--batch-size", "16", "--workers", "2", "--verify")
    out = printed(capsys, *plan)
    assert "predicted / measured" in out
    assert "read" in out.splitlines()[2]
    result = json.loads(printed(capsys, *plan, "--bandwidth", "1GB/s", "--json"))
    assert result["reach"]["kind"] == "network"
    for row in result["verified"]:
        ratio = row["predicted_ms"] / row["measured_ms"]
        assert row["predicted_over_measured"] == pytest.approx(ratio)
    assert result["verified"][0]["workers"] == 1
