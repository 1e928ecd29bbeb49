"""Derived files: formats of a result that were rendered after its job had ended, and the documents that describe them.

A document names the object of its file by a part of its hash, so that a file which is rendered again, by another
version, never takes the place of one that is described.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Self

import orjson
from pydantic import TypeAdapter

from shared.formats.registry import Format
from shared.jobs.format_options import FORMAT_OPTIONS, FormatOptions
from shared.jobs.result import ByteRange, JobResult, StoredFile
from shared.storage.bucket import Bucket, NoSuchObject
from shared.storage.keys import derived_key

_DIGEST_CHARACTERS: Final = 16
FACTS_SUFFIX: Final = ".facts"


@dataclass(frozen=True, slots=True)
class DerivedFile:
    """A derived file that is stored.

    name: of its object, in the folder of the derived files.
    stored: its size, ETag and hash.
    ranges: by segment id, the bytes that are that segment's own file; empty for most formats.
    """

    name: str
    stored: StoredFile
    ranges: Mapping[int, ByteRange] = field(default_factory=dict)

    def to_json(self) -> bytes:
        return _DERIVED.dump_json(self)

    @classmethod
    def from_json(cls, document: bytes) -> Self:
        """Read a document.

        Raises:
            ValueError: it is none.
        """
        return _DERIVED.validate_json(document)  # type: ignore[return-value]


_DERIVED = TypeAdapter(DerivedFile)


def select_options(options: FormatOptions, wanted: Format) -> Mapping[str, object]:
    """Return the options that a format has, by name."""
    wire = FORMAT_OPTIONS.dump_python(options, mode="json")
    return {name: wire[name] for name in wanted.options}


def read_derived(result: JobResult, wanted: Format, options: FormatOptions, *, bucket: Bucket) -> DerivedFile | None:
    """Return what is known of the file of a format, or None if it was not rendered yet.

    Raises:
        StorageUnavailable: the bucket did not answer.
    """
    try:
        return DerivedFile.from_json(bucket.get(_build_facts_key(result, wanted, options)))
    except NoSuchObject:
        return None


def store_derived(
    result: JobResult,
    wanted: Format,
    options: FormatOptions,
    content: bytes,
    ranges: Mapping[int, ByteRange],
    *,
    bucket: Bucket,
    media_type: str | None = None,
) -> DerivedFile:
    """Store a file, and then the document that describes it: what has no document does not exist.

    Args:
        media_type: of the file, if it is not that of the format.

    Raises:
        StorageUnavailable: the bucket did not answer.
    """
    digest = sha256(content).hexdigest()
    name = f"{digest[:_DIGEST_CHARACTERS]}.{wanted.file}"
    key = derived_key(result.request.id, result.attempt_name, name)
    etag = bucket.put(key, content, content_type=media_type or wanted.media_type)
    derived = DerivedFile(name, StoredFile(len(content), etag, digest, media_type), ranges)
    bucket.put(_build_facts_key(result, wanted, options), derived.to_json(), content_type="application/json")
    return derived


def _build_facts_key(result: JobResult, wanted: Format, options: FormatOptions) -> str:
    """Return the key of the document of a file; its name has a digest of the options if they are not the job's own."""
    chosen = select_options(options, wanted)
    name = f"{wanted.file}{FACTS_SUFFIX}"
    if chosen != select_options(result.request.format_options, wanted):
        digest = sha256(orjson.dumps(chosen, option=orjson.OPT_SORT_KEYS)).hexdigest()
        name = f"{digest[:_DIGEST_CHARACTERS]}.{name}"
    return derived_key(result.request.id, result.attempt_name, name)
