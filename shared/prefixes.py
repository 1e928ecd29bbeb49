"""The prefixes that keep stacks apart which share a database of Redis or a bucket.

Their shapes make sure that no key of one stack can be one of another, even if one prefix begins with the other.
"""

import re

MAX_STORAGE_PREFIX = 200
# Names of objects and folders that a stack has below its prefix; shared/storage/keys.py has their meaning.
OBJECT_NAMES = frozenset(
    {
        *("dead-letters", "erasures", "inbox", "inputs", "kept", "layout", "purged", "recuts"),
        *("requests", "results", "stack", "store-check", "uploads", "webhooks"),
    }
)

# One word without a colon: the prefix of a stack ends at the first colon of its keys.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
# Keys of a stack without a prefix begin with this, or with a name that has a dot or begins with an underscore.
_RESERVED_WORD = "mm"
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def check_redis_prefix(value: str) -> str:
    """Return a value of MASKMILL_REDIS_PREFIX.

    Raises:
        ValueError: it is not a name.
    """
    if value and not _NAME.fullmatch(value):
        raise ValueError("is not a name of at most 64 letters, digits, - and _ that begins with a letter or a digit")
    if value == _RESERVED_WORD:
        raise ValueError("is what the keys of a stack without a prefix begin with; choose another name")
    return value


def check_storage_prefix(value: str) -> str:
    """Return a value of MASKMILL_STORAGE_PREFIX without a slash at its end.

    A stack lists only the folders of OBJECT_NAMES below its prefix, and no prefix leads through such a folder, so the
    prefix of one stack may be a folder in that of another.

    Raises:
        ValueError: it is not a path, or it has a folder of such a name.
    """
    folders = value.removesuffix("/").split("/") if value else []
    if not all(map(_FOLDER.fullmatch, folders)) or len(value) > MAX_STORAGE_PREFIX:
        raise ValueError(
            f"is not a path of at most {MAX_STORAGE_PREFIX} characters whose folders have letters, digits, '.', - and "
            "_, and begin with a letter or a digit"
        )
    if found := sorted(OBJECT_NAMES.intersection(folders)):
        raise ValueError(f"has a folder {found[0]}, which is a name of a stack's own objects; choose another one")
    return "/".join(folders)


def build_key_prefix(redis_prefix: str) -> str:
    """Return what begins every key in Redis of a stack with this MASKMILL_REDIS_PREFIX.

    >>> build_key_prefix("roads"), build_key_prefix("")
    ('roads:', '')
    """
    return f"{redis_prefix}:" if redis_prefix else ""
