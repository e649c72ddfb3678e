"""Measure the project's workloads against all peers, and write the results into README.md here."""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from peers.process import LIBRARIES, check_peers

from dist_dnn.errors import InputError

SCRIPTS = Path(__file__).resolve().parent
PAGE = SCRIPTS / "README.md"
BEGIN, END = "<!-- results.py begins -->", "<!-- results.py ends -->"
"""What is between them in the page is written anew."""

WORKLOADS = {
    "S": ("64,64,32,10", "256", "2100"),
    "M": ("784,512,256,10", "512", "210"),
    "L": ("1024,2048,2048,1024,10", "2048", "21"),
}
"""Layers, batch size, and how many steps are compared with their products: enough that the first
ones after a pause, while workers wake up, do not count.
"""

SHARDS = (2, 8)
PEERS = tuple(LIBRARIES)
PACKAGES = ("numpy", "torch", "jax", "scikit-learn")
BARS_OVER_BEST = {
    ("S", 2): 2.0,
    ("M", 2): 1.10,
    ("L", 2): 1.05,
    ("S", 8): 1.2,
    ("M", 8): 1.0,
    ("L", 8): 1.0,
}
BARS_OVER_DDP = {("S", 8): 10.0, ("M", 8): 1.8, ("L", 8): 1.1}
BARS_OF_PRODUCTS = {("M", 2): 0.90, ("L", 2): 0.97, ("M", 8): 0.82, ("L", 8): 0.95}
BESIDE = {
    "one worker's step over that of two": (
        ("--workers", "1", "--beside", "workers=2"),
        {"M": 1.9, "L": 1.9},
    ),
    "a step of sgd over one of Adam": (("--beside", "optimizer=adam"), {"M": 0.85, "L": 0.90}),
}
"""What is compared among ourselves, with the flags for it and the bars."""

Result = dict[str, Any]


def main() -> int:
    """Measure and write; the exit status is 1 where a measurement failed, 2 without all peers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the smallest workload alone")
    quick = parser.parse_args().quick
    try:
        check_peers(PEERS)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rows = [("S", 2)] if quick else [(name, shards) for shards in SHARDS for name in WORKLOADS]
    nets = ["S"] if quick else ["M", "L"]
    against = {
        (name, shards): benchmark(name, shards, "--against", ",".join(PEERS))
        for name, shards in rows
    }
    beside = {
        (what, name): benchmark(name, SHARDS[-1], *flags)
        for what, (flags, _) in BESIDE.items()
        for name in nets
    }
    sections = [_origin(quick), _against_table(against), _beside_table(beside, nets)]
    write_between_marks(PAGE, "\n\n".join(sections))
    return int(None in (*against.values(), *beside.values()))


def benchmark(name: str, shards: int, *flags: str) -> Result | None:
    """What the benchmark gives for a workload; None where it fails."""
    layers, batch_size, steps = WORKLOADS[name]
    chosen = ("--layers", layers, "--batch-size", batch_size, "--shards", str(shards), *flags)
    print(f"{name}: {' '.join(chosen)}", file=sys.stderr, flush=True)
    done = subprocess.run(  # noqa: S603 - our own script, no shell
        [sys.executable, str(SCRIPTS / "benchmark.py"), *chosen, "--steps", steps],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        print(f"{name}: exit status {done.returncode}, see above", file=sys.stderr, flush=True)
        return None
    result: Result = json.loads(done.stdout)
    return result


def _origin(quick: bool) -> str:
    """Where and when the numbers were measured."""
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    whole = "A quick run, of the smallest net alone. " if quick else ""
    return (
        f"{whole}Made on {datetime.now(UTC):%Y-%m-%d} by `python scripts/results.py"
        f"{' --quick' if quick else ''}`: {_processor()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, {versions}; 2 local workers, sgd."
    )


def _processor() -> str:
    """The model of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _against_table(results: dict[tuple[str, int], Result | None]) -> str:
    """Our rates over those of all peers."""
    head = ("net", "shards", "best peer", "over the best", *PEERS, "gemm_fraction")
    lines = []
    for (name, shards), result in results.items():
        if result is None:
            lines.append((name, str(shards), *["failed"] * (len(head) - 2)))
            continue
        at = name, shards
        best = _measured(result, "ratio_to_best", BARS_OVER_BEST.get(at))
        bars = {"ddp": BARS_OVER_DDP.get(at)}
        peers = [_measured(result["against"][peer], "ratio", bars.get(peer)) for peer in PEERS]
        fraction = result["gemm_fraction"]
        products = _beside_bar(f"{fraction:.2f}", fraction, BARS_OF_PRODUCTS.get(at))
        lines.append((name, str(shards), result["best_peer"], best, *peers, products))
    return _table(head, lines)


def _beside_table(results: dict[tuple[str, str], Result | None], nets: list[str]) -> str:
    """Our times over our own, by 8 shards."""

    def cell(what: str, name: str) -> str:
        result, bar = results[what, name], BESIDE[what][1].get(name)
        return "failed" if result is None else _measured(result, "ratio_to_beside", bar)

    lines = [(what, *(cell(what, name) for name in nets)) for what in BESIDE]
    return _table((f"by {SHARDS[-1]} shards", *nets), lines)


def _measured(result: Result, name: str, bar: float | None) -> str:
    """A ratio with its interval, and its bar: missed where the whole interval lies below."""
    low, high = result[f"{name}_low"], result[f"{name}_high"]
    return _beside_bar(f"{result[name]:.2f} ({low:.2f} to {high:.2f})", high, bar)


def _beside_bar(text: str, greatest: float, bar: float | None) -> str:
    if bar is None:
        return text
    return f"{text}; ≥ {bar:.2f}{' missed' if greatest < bar else ''}"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def write_between_marks(page: Path, text: str) -> None:
    """Put a text in the place of what is between the two marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
