"""Tables for people."""

from collections.abc import Collection, Sequence
from typing import TextIO
from unicodedata import category, east_asian_width


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
    widths = [max(width_of(row[i]) for row in rows) for i in range(columns)]
    is_right = [bool({i, i - columns} & {*right}) for i in range(columns)]
    for row in rows:
        cells = [
            _padded(text, width, flush)
            for text, width, flush in zip(row, widths, is_right, strict=True)
        ]
        print("  ".join(cells).rstrip(), file=file)


def _padded(text: str, width: int, is_right: bool) -> str:
    space = " " * (width - width_of(text))
    return space + text if is_right else text + space


def width_of(text: str) -> int:
    """How many columns of a terminal a text takes: 漢 has two, and an accent of its own none."""
    return sum(
        0 if category(each) in ("Mn", "Me") else 2 if east_asian_width(each) in "WF" else 1
        for each in text
    )
