"""A limit of files' sizes, which stands for a disk that is full."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def file_sizes(first: int | None = None) -> Iterator[Callable[[int | None], None]]:
    """Limit how long this process may make any file; gives what sets another limit, or none.

    It must end before a test does: pytest writes its report, perhaps into a file.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int | None) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, before if size is None else (size, before[1]))

    limit(first)
    try:
        yield limit
    finally:
        limit(None)
