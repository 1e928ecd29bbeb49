"""The files that a browser loads for the pages, read from this package once.

A path of a client is compared with their names and never opened.
"""

import gzip
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

MEDIA_TYPES: Mapping[str, str] = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml; charset=utf-8",
    "json": "application/json; charset=utf-8",
    "jpg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "LICENSE": "text/plain; charset=utf-8",
}
_COMPRESSED_ALREADY = frozenset({"image/jpeg", "image/png", "image/webp"})
_VERSION_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class Asset:
    """One file.

    compressed: by gzip; None if that makes it no smaller.
    digest: of the content, in hexadecimal.
    """

    media_type: str
    content: bytes
    compressed: bytes | None
    digest: str


@dataclass(frozen=True, slots=True)
class Assets:
    """All files, by their path below `static/`.

    version: stands in the address of each file, and changes with any of them, because modules load one another.
    """

    version: str
    files: Mapping[str, Asset]

    def list_modules(self, *folders: str) -> list[str]:
        """Return the names of the modules in these folders that a page runs; a worker is loaded when it is started."""
        found = (name for name in self.files if name.rpartition("/")[0] in folders)
        return [name for name in found if name.endswith((".js", ".mjs")) and not name.endswith("worker.js")]


@cache
def read_assets() -> Assets:
    """Read and compress the files; a process does it once."""
    files = {
        name: _build(name, content) for name, content in sorted(_read(resources.files(__package__) / "static", ""))
    }
    names_and_digests = "\n".join(f"{name} {asset.digest}" for name, asset in files.items())
    return Assets(_digest(names_and_digests.encode())[:_VERSION_CHARACTERS], files)


def _read(folder: Traversable, prefix: str) -> Iterable[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _read(entry, f"{prefix}{entry.name}/")
        elif _suffix(entry.name) in MEDIA_TYPES:
            yield f"{prefix}{entry.name}", entry.read_bytes()


def _build(name: str, content: bytes) -> Asset:
    media_type = MEDIA_TYPES[_suffix(name)]
    compressed = None if media_type in _COMPRESSED_ALREADY else gzip.compress(content, compresslevel=9, mtime=0)
    is_smaller = compressed is not None and len(compressed) < len(content)
    return Asset(media_type, content, compressed if is_smaller else None, _digest(content))


def _suffix(name: str) -> str:
    """Return what follows the last dot or slash."""
    return name.rpartition("/")[2].rpartition(".")[2]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
