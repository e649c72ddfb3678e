"""Quantities with units, as the command line takes them."""

import argparse
import math
import re

_PREFIXES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
BANDWIDTHS = {
    f"{prefix}{unit}/s": factor * size
    for prefix, factor in _PREFIXES.items()
    for unit, size in (("b", 1 / 8), ("bit", 1 / 8), ("B", 1.0))
}
"""Bytes a second."""

TIMES = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0}
"""Seconds; micro as either of the signs that look alike."""

RATES = {f"{prefix}FLOP/s": factor for prefix, factor in _PREFIXES.items()}
"""Floating-point operations a second."""

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?)\s*(.*)")


def bandwidth(text: str) -> float:
    """Bytes a second of ``10Gb/s`` (bits) or ``1.25GB/s`` (bytes)."""
    return _above_0(text, BANDWIDTHS, "10Gb/s (bits) or 1.25GB/s (bytes)")


def latency(text: str) -> float:
    """Seconds of ``50us``; 0 is one."""
    return _read(text, TIMES, "50us, 1ms or 20ns")


def rate(text: str) -> float:
    """Operations a second of ``90GFLOP/s``."""
    return _above_0(text, RATES, "90GFLOP/s")


def _above_0(text: str, units: dict[str, float], example: str) -> float:
    value = _read(text, units, example)
    if value == 0:
        raise argparse.ArgumentTypeError(f"must be above 0, like {example}, not {text!r}")
    return value


def _read(text: str, units: dict[str, float], example: str) -> float:
    found = _QUANTITY.fullmatch(text.strip())
    value = math.inf
    if found is not None and found[2] in units:
        value = float(found[1]) * units[found[2]]
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(
            f"must be a number with its unit, like {example}, not {text!r}"
        )
    return value
