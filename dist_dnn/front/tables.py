"""Tables for people."""

from collections.abc import Collection, Sequence
from typing import TextIO


def print_table(
    rows: Sequence[Sequence[str]],
    right: Collection[int] = (-1,),
    file: TextIO | None = None,
) -> None:
    """Print rows of texts in columns.

    Args:
        right: the columns that stand flush right, by number; −1 is the last one.
        file: where to; None: standard output.
    """
    columns = len(rows[0])
    widths = [max(len(row[i]) for row in rows) for i in range(columns)]
    is_right = [bool({i, i - columns} & {*right}) for i in range(columns)]
    for row in rows:
        cells = [
            f"{text:>{width}}" if flush else f"{text:<{width}}"
            for text, width, flush in zip(row, widths, is_right, strict=True)
        ]
        print("  ".join(cells).rstrip(), file=file)
