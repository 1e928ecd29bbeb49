"""How many fetches keep a slot: quick ones take turns, slow ones send others away."""

import threading

import pytest

from shared.errors import UrlsBusy
from worker.pipeline.held_fetches import HeldFetches


def test_a_fetch_waits_while_another_one_is_quick() -> None:
    fetches, began, done = HeldFetches(1, slow_seconds=30), threading.Event(), threading.Event()

    def fetch() -> None:
        with fetches.hold():
            began.set()
            done.wait(10)

    first = threading.Thread(target=fetch)
    first.start()
    began.wait(10)
    threading.Timer(0.05, done.set).start()
    with fetches.hold():
        is_first_over = done.is_set()
    first.join()

    assert is_first_over


def test_a_fetch_is_refused_while_all_others_are_slow() -> None:
    fetches = HeldFetches(2, slow_seconds=0)

    with fetches.hold(), fetches.hold(), pytest.raises(UrlsBusy), fetches.hold():
        pass

    with fetches.hold():
        """A turn is given back at the end of its block."""


def test_a_turn_is_given_back_after_an_error() -> None:
    fetches = HeldFetches(1, slow_seconds=0)
    with pytest.raises(ZeroDivisionError), fetches.hold():
        raise ZeroDivisionError

    with fetches.hold():
        """There is a turn for the next one."""
