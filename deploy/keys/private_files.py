"""Files and folders that only their owner can read."""

import os
from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


def write_private(file: Path, text: str, *, mode: int = PRIVATE_FILE) -> None:
    """Write a file that has these permissions before it has content; an earlier file is replaced at once."""
    new = file.with_name(f".{file.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as stream:
        # The umask may have removed the group's permission.
        os.fchmod(stream.fileno(), mode)
        stream.write(text)
    new.replace(file)


def make_private_folder(folder: Path) -> None:
    """Make a folder, or take the permissions of others from one that exists; its content is out of their reach then.

    Raises:
        PermissionError: it belongs to another user.
    """
    folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    folder.chmod(PRIVATE_FOLDER)
