"""The limits of one process, from its settings and from the system's limit of open files."""

import resource
from collections.abc import Iterator

import pytest

from api.settings import ApiSettings
from api.wsgi import MAX_OPEN_FILES, RESERVED_FILES, build_limits, raise_file_limit

THREADS = 50


@pytest.fixture
def few_open_files() -> Iterator[int]:
    """A low limit of open files, which the process may raise again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (900, hard))
    yield 900
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_connections_are_bounded_by_the_limit_of_open_files(few_open_files: int) -> None:
    limits = build_limits(ApiSettings(threads=THREADS))

    assert limits.max_connections == few_open_files - RESERVED_FILES - 2 * THREADS


def test_as_many_connections_as_threads_are_always_possible(few_open_files: int) -> None:
    assert build_limits(ApiSettings(threads=few_open_files)).max_connections == few_open_files


def test_one_peer_has_at_most_half_of_all_connections(few_open_files: int) -> None:
    limits = build_limits(ApiSettings(threads=THREADS))

    assert limits.max_connections_per_peer == limits.max_connections // 2


def test_the_limit_of_open_files_is_raised_as_far_as_allowed(few_open_files: int) -> None:
    raise_file_limit()

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == (MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES))
