"""Made-up rows, to measure training with."""

from typing import Any

import numpy as np
import pyarrow as pa


def made_up_rows(features: int, classes: int, m: int) -> pa.Table:
    """A table of m rows: x, a list of so many float32 numbers, and y, one of so many classes."""
    random = np.random.default_rng(0)
    x: Any = pa.array(random.standard_normal(m * features, np.float32))
    y = pa.array(np.arange(m) % classes)
    return pa.table({"x": pa.FixedSizeListArray.from_arrays(x, features), "y": y})
