"""Paths of requests, as the app sees them."""

import re

_SLASHES = re.compile("//+")


def merge_slashes(path: str) -> str:
    """Return a path with one slash for several in a row.

    >>> merge_slashes("//v1///jobs/")
    '/v1/jobs/'
    """
    return _SLASHES.sub("/", path)


def remove_prefix(path: str, prefix: str) -> str:
    """Return the path below a prefix; some proxies have removed it, and then the path is returned as it is.

    >>> remove_prefix("//masks/v1", "/masks"), remove_prefix("/v1", "/masks")
    ('/v1', '/v1')
    """
    path = merge_slashes(path)
    is_below = path == prefix or path.startswith(f"{prefix}/")
    return (path.removeprefix(prefix) or "/") if is_below else path
