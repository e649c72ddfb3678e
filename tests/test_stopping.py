"""Signals: what the first and the second one do, where."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from dist_dnn import stopping

BOTH = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def handlers_stay() -> Iterator[None]:
    before = [signal.getsignal(number) for number in BOTH]
    yield
    assert [signal.getsignal(number) for number in BOTH] == before


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def wait_as_ray_does() -> None:
    try:
        send(signal.SIGTERM)
    except KeyboardInterrupt:
        raise KeyboardInterrupt from None


@pytest.mark.parametrize("number", BOTH)
def test_a_signal_stops_at_once_where_nothing_postpones_it(number: signal.Signals) -> None:
    with stopping.handled():
        with pytest.raises(stopping.Stopped) as caught:
            send(number)
        assert (caught.value.number, caught.value.at_once) == (number, False)
        assert str(caught.value) == stopping.SIGNALS[number]
        with pytest.raises(stopping.Stopped) as caught:
            send(number)
        assert caught.value.at_once
        send(number)  # further ones do nothing


def test_it_is_an_interrupt_to_those_who_know_nothing_of_it() -> None:
    with stopping.handled(), pytest.raises(KeyboardInterrupt):
        send(signal.SIGTERM)


def test_what_a_library_made_of_it_is_undone() -> None:
    with stopping.handled():
        with pytest.raises(KeyboardInterrupt) as foreign, stopping.restored():
            raise KeyboardInterrupt
        assert type(foreign.value) is KeyboardInterrupt
        for at_once in (False, True):
            with pytest.raises(stopping.Stopped) as caught, stopping.restored():
                wait_as_ray_does()
            assert (caught.value.number, caught.value.at_once) == (signal.SIGTERM, at_once)


def test_the_first_is_postponed_until_it_is_asked_for_and_the_second_is_not() -> None:
    with stopping.handled(), stopping.postponed():
        stopping.check()
        send(signal.SIGTERM)
        with pytest.raises(stopping.Stopped) as caught:
            stopping.check()
        assert (caught.value.number, caught.value.at_once) == (signal.SIGTERM, False)
        with pytest.raises(stopping.Stopped) as caught:
            send(signal.SIGINT)
        assert (caught.value.number, caught.value.at_once) == (signal.SIGTERM, True)


def test_what_may_be_left_anywhere_is_left_at_once() -> None:
    with stopping.handled(), stopping.postponed():
        with stopping.immediate(), pytest.raises(stopping.Stopped):
            send(signal.SIGINT)
        with pytest.raises(stopping.Stopped), stopping.immediate():
            pytest.fail("it was postponed before")


def test_contexts_begin_anew_and_nest() -> None:
    for _ in range(2):
        with stopping.handled(), stopping.handled(), stopping.postponed():
            stopping.check()
            send(signal.SIGINT)
            with pytest.raises(stopping.Stopped):
                stopping.check()
    stopping.check()


def test_what_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stopping.handled(), stopping.postponed():
            send(signal.SIGINT)
            stopping.check()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_change_nothing_for_the_main_one() -> None:
    def work() -> None:
        with stopping.postponed(), stopping.immediate():
            inside.set()
            end.wait()
        stopping.check()

    inside, end = threading.Event(), threading.Event()
    thread = threading.Thread(target=work)
    with stopping.handled(), stopping.postponed():
        thread.start()
        inside.wait()
        send(signal.SIGINT)
        end.set()
        thread.join()
        with pytest.raises(stopping.Stopped):
            stopping.check()


def test_other_threads_leave_signals_alone() -> None:
    found = []

    def look() -> None:
        with stopping.handled():
            found.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [before]
