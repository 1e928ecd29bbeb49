"""Whose turn a recut is in a renderer: previews do not wait for full sizes, and what is not wanted is not made."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.errors import Canceled
from shared.jobs.parameters import SegmentParameters
from tests.support.keeping import MODEL, RULE, keep
from worker.recut.file import RecutData
from worker.renderer.recut import PREVIEW_SIDE, Recutter
from worker.segmenter import Segmentation

FULL = (PREVIEW_SIDE, PREVIEW_SIDE + 1)
PREVIEW = (PREVIEW_SIDE // 2, PREVIEW_SIDE)
SECONDS = 10.0


def run(recutter: Recutter, size: tuple[int, int], check: Callable[[], None] = lambda: None) -> Segmentation:
    data = RecutData("test/model", "r", *FULL, MODEL, keep(RULE))
    return recutter.recut(data, SegmentParameters(), size, tenant="one", check=check)


def test_a_preview_does_not_wait_for_a_full_size_and_another_full_size_does() -> None:
    recutter, begun, go_on, order = Recutter(threads=1), threading.Event(), threading.Event(), []

    def hold() -> None:
        begun.set()
        assert go_on.wait(SECONDS)
        order.append("first")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(run, recutter, FULL, hold)
        assert begun.wait(SECONDS)
        second = pool.submit(run, recutter, FULL, lambda: order.append("second"))

        preview = run(recutter, PREVIEW, lambda: order.append("preview"))
        go_on.set()

        assert [first.result().label_map.shape, second.result().label_map.shape] == [FULL, FULL]
    assert preview.label_map.shape == PREVIEW
    assert order == ["preview", "first", "second"]


def test_a_recut_that_is_not_wanted_when_its_turn_comes_is_not_made() -> None:
    recutter = Recutter(threads=1)

    def refuse() -> None:
        raise Canceled("gone")

    with pytest.raises(Canceled):
        run(recutter, FULL, refuse)
    assert run(recutter, FULL).label_map.shape == FULL
