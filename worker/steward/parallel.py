"""Work on many objects at once: each call to the object store mostly waits."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")

THREADS = 16


def run_for_each(function: Callable[[T], object], items: Sequence[T], *, threads: int = THREADS) -> None:
    """Call a function with each item, on several threads; after an error no further call begins.

    Raises:
        Exception: the first error of the calls.
    """
    if not items:
        return
    with ThreadPoolExecutor(min(threads, len(items))) as pool:
        for _ in pool.map(function, items):
            pass


def split_pages(items: Iterable[T], size: int) -> Iterator[Sequence[T]]:
    """Yield the items in lists of `size`; the last one may be shorter.

    >>> list(split_pages("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    rest = iter(items)
    while page := list(islice(rest, size)):
        yield page
