"""A suspected call runs alone, and comes before the calls that have not begun."""

import threading
from concurrent.futures import ThreadPoolExecutor

from tests.support.polling import wait_until
from worker.renderer.company import Company


def test_calls_run_beside_one_another() -> None:
    company, both = Company(), threading.Barrier(2, timeout=10)

    def run() -> None:
        with company.share():
            both.wait()

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(run) for _ in range(2)]:
            done.result()


def test_a_suspected_call_waits_for_those_that_run_and_others_wait_for_it() -> None:
    company, order, is_over = Company(), list[str](), threading.Event()

    def run_first() -> None:
        with company.share():
            is_over.wait(10)
            order.append("first")

    def run_suspected() -> None:
        with company.exclude():
            order.append("suspected")

    def run_last() -> None:
        with company.share():
            order.append("last")

    with ThreadPoolExecutor(3) as pool:
        pool.submit(run_first)
        wait_until(lambda: company.running == 1)
        pool.submit(run_suspected)
        wait_until(lambda: company.waiting == 1)
        last = pool.submit(run_last)
        assert not order
        is_over.set()
        last.result()

    assert order == ["first", "suspected", "last"]


def test_two_suspected_calls_run_one_after_the_other() -> None:
    company, inside, counts = Company(), list[int](), list[int]()

    def run(number: int) -> None:
        with company.exclude():
            inside.append(number)
            counts.append(len(inside))
            inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(20)))

    assert counts == [1] * 20
