"""Files that a test may not read, also when it is run as root."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65_534


@contextmanager
def deny_reading(path: Path) -> Iterator[None]:
    """While the block runs, let this process have no permission for a file or folder.

    Folders above it can be entered meanwhile, so that nothing else than this path is denied.
    """
    is_root = os.geteuid() == 0
    changed = [folder for folder in path.parents if folder.stat().st_mode & 0o055 != 0o055] if is_root else []
    before = {folder: folder.stat().st_mode for folder in [path, *changed]}
    for folder in changed:
        folder.chmod(before[folder] | 0o055)
    path.chmod(0)
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        for one, mode in before.items():
            one.chmod(mode)
