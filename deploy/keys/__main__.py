"""Make the keys of a deployment in containers:   python -m deploy.keys

Runs before the other services of docker-compose.yml, and ends.  Each folder below FOLDERS is a volume, and a service
mounts only those that it needs.  Keys that the environment names are used; the others are made once.  All are kept, so
that the servers, which read theirs when they start, and their clients agree also at a start without these variables.
"""

import json
import os
import secrets
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.keys.object_store import write_identities, write_security
from deploy.keys.private_files import write_private
from deploy.keys.valkey import format_password

FOLDERS = Path("/keys")
# Where the two servers mount their volume.
MOUNTED = Path("/run/keys")
# The servers run as other users of the same group; no other container mounts their volumes.
_GROUP_READABLE = 0o640


@dataclass(frozen=True, slots=True)
class Volumes:
    """The folders for gateway, worker and steward; for Valkey; for the object store."""

    clients: Path
    valkey: Path
    objects: Path


def main() -> int:
    """Write all keys below FOLDERS."""
    make_keys(Volumes(FOLDERS / "clients", FOLDERS / "valkey", FOLDERS / "objects"), os.environ)
    return 0


def make_keys(volumes: Volumes, environ: Mapping[str, str]) -> None:
    """Write the keys into the volumes.  A second call changes none, except those that the environment names."""
    kept = volumes.clients / "made.json"
    keys = _make() | _read(kept)
    # The readers of a file of a key drop the blanks around it.
    keys |= {name: chosen for name in keys if (chosen := environ.get(name.upper(), "").strip())}
    write_private(kept, json.dumps(keys))
    for name, value in keys.items():
        write_private(volumes.clients / name, value)
    password = keys["maskmill_redis_password"]
    write_private(volumes.valkey / "password", password, mode=_GROUP_READABLE)
    write_private(volumes.valkey / "valkey.conf", format_password(password), mode=_GROUP_READABLE)
    access_key, secret_key = keys["maskmill_storage_access_key"], keys["maskmill_storage_secret_key"]
    write_identities(volumes.objects / "s3.json", access_key, secret_key, mode=_GROUP_READABLE)
    # A running object store has read the certificate, and parts of it read the file again.
    if not (volumes.objects / "security.toml").exists():
        write_security(volumes.objects, seen_as=MOUNTED, mode=_GROUP_READABLE)


def _make() -> dict[str, str]:
    """Return new keys by the names of their settings in lower case."""
    return {
        "maskmill_redis_password": secrets.token_urlsafe(30),
        "maskmill_storage_access_key": secrets.token_hex(10),
        "maskmill_storage_secret_key": secrets.token_urlsafe(30),
    }


def _read(file: Path) -> dict[str, str]:
    """Return the keys that the file holds; of a damaged one, none: both sides then get new ones."""
    try:
        wire = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    found = wire if isinstance(wire, dict) else {}
    return {name: found[name] for name in _make() if found.get(name) and isinstance(found[name], str)}


if __name__ == "__main__":
    ArgumentParser(
        "python -m deploy.keys", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    ).parse_args()
    sys.exit(main())
