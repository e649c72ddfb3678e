"""Finding the runs in a folder, or below a prefix of an object store."""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from dist_dnn.data.sources import printable
from dist_dnn.errors import InputError
from dist_dnn.looking import MARKS, Look, look_at
from dist_dnn.notices import warn
from dist_dnn.storage import Folder, Listing, open_folder

DEPTH = 4
"""So many folders deep below the one that is given a run may lie."""

THREADS = 16
"""So many folders of a slow store are read at a time."""


class Found(NamedTuple):
    """A run, by its path below the folder that was looked in, and what was seen of it."""

    name: str
    look: Look


def find_runs(location: str) -> list[Found]:
    """All runs in a folder and in folders of it, by their names, or the one that it is.

    What is deeper than DEPTH is left out, and a warning says so. Hidden folders and what lies
    behind links are left out, too; the location itself may be a link.

    Raises:
        InputError: there is no such folder, or it cannot be reached.
    """
    top = open_folder(location)
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            runs = _runs_in(top, pool)
            looks = list(pool.map(look_at, runs.values()))
        except BaseException:  # a signal, say: what is not begun need not be done
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [Found(name, look) for name, look in zip(runs, looks, strict=True)]


def _runs_in(top: Folder, pool: ThreadPoolExecutor) -> dict[str, Folder]:
    try:
        listing = top.listed()
    except OSError as error:
        raise InputError(
            f"{top.name} cannot be looked into: {error.strerror}; give a folder of runs, or a run"
        ) from None
    if listing.files & MARKS:
        return {top.name.rpartition("/")[2] or top.name: top}
    found: dict[str, Folder] = {}
    level = {name: top.inner(name) for name in _visible(listing)}
    for _ in range(DEPTH):
        below: dict[str, Folder] = {}
        listings = pool.map(_listed, level.values())
        for (name, folder), listing in zip(level.items(), listings, strict=True):
            if listing.files & MARKS:
                found[name] = folder
            else:
                below |= {f"{name}/{each}": folder.inner(each) for each in _visible(listing)}
        level = below
    if level:
        deepest = printable(min(level))
        warn(f"folders more than {DEPTH} deep in {top.name} were left out, such as {deepest}")
    return dict(sorted(found.items()))


def _visible(listing: Listing) -> list[str]:
    return [name for name in listing.folders if not name.startswith(".")]


def _listed(folder: Folder) -> Listing:
    try:
        return folder.listed()
    except OSError as error:
        warn(f"{folder.name} cannot be looked into: {error.strerror}")
        return Listing(set(), [])
