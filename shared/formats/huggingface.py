"""The JSON array that clients of the Hugging Face task `image-segmentation` read, built from a stored result."""

from base64 import b64encode
from collections.abc import Mapping, Sequence

import orjson

from shared.jobs.result import ByteRange, Segment


def hf_array(segments: Sequence[Segment], archive: bytes, masks: Mapping[int, ByteRange]) -> bytes:
    """Return the JSON array of a result, in the pipeline's order.

    Each element has score, label and mask (base64 of an 8-bit greyscale PNG, 0 or 255).  A segment without a score
    gets 1.0, because JavaScript clients reject null, and older ones reject a missing score.

    Args:
        archive: masks.zip, whose entries are not compressed.
        masks: byte range of each segment's PNG in the archive, by segment id.
    """
    return orjson.dumps(
        [
            {
                "score": 1.0 if segment.score is None else segment.score,
                "label": segment.label,
                "mask": b64encode(_cut(archive, masks[segment.id])).decode("ascii"),
            }
            for segment in segments
        ]
    )


def _cut(archive: bytes, place: ByteRange) -> memoryview:
    return memoryview(archive)[place.offset : place.offset + place.length]
