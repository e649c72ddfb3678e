"""Signals: the first asks for an end at a good moment, the second makes one at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import Any

SIGNALS = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGUSR1: "asked to end",  # what launchers and queues can send ahead of the end
}
"""The signals that end a command, and what they did to it."""

_asked: signal.Signals | None = None
_raised: "Stopped | None" = None
_postponed = False


class Stopped(KeyboardInterrupt):
    """A signal came.

    Attributes:
        number: which.
        at_once: it was not the first: leave everything as it is.
    """

    def __init__(self, number: signal.Signals, at_once: bool = False) -> None:
        super().__init__(SIGNALS[number])
        self.number = number
        self.at_once = at_once


def install() -> dict[signal.Signals, Any]:
    """From now on the first two signals raise Stopped in the main thread, and others do nothing.

    What was told to be ignored stays so.

    Returns:
        The handlers before.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _handle)
    return before


@contextmanager
def handled() -> Iterator[None]:
    """A context in which signals are handled as ``install`` says, where they can be."""
    global _asked, _raised
    installed = any(signal.getsignal(number) is _handle for number in SIGNALS)
    if installed or current_thread() is not main_thread():
        yield
        return
    before = install()
    try:
        yield
    finally:
        _asked = _raised = None
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def postponed() -> Iterator[None]:
    """A context in which the first signal only sets a flag, which ``check`` reads."""
    with _set_postponed(True):
        yield


@contextmanager
def immediate() -> Iterator[None]:
    """Inside ``postponed``, a context that a signal may leave anywhere."""
    check()
    with _set_postponed(False):
        yield


def check() -> None:
    """Raise Stopped if a signal was postponed; signals are the main thread's alone."""
    if _asked is not None and _postponed and current_thread() is main_thread():
        raise Stopped(_asked)


@contextmanager
def restored() -> Iterator[None]:
    """A context that raises Stopped where a library made a bare KeyboardInterrupt of it."""
    try:
        yield
    except KeyboardInterrupt as error:
        if isinstance(error, Stopped) or _raised is None:
            raise
        raise _raised from None


@contextmanager
def _set_postponed(value: bool) -> Iterator[None]:
    global _postponed
    if current_thread() is not main_thread():
        yield
        return
    before, _postponed = _postponed, value
    try:
        yield
    finally:
        _postponed = before


def ignore() -> None:
    """From now on signals do nothing."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _handle(number: int, frame: object) -> None:
    global _asked, _raised
    if _asked is None:
        _asked = signal.Signals(number)
        if not _postponed:
            _raised = Stopped(_asked)
            raise _raised
    else:
        ignore()
        _raised = Stopped(_asked, at_once=True)
        raise _raised
