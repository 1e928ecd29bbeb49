"""The body of a recut: a small JSON object."""

from collections.abc import Mapping
from typing import Final

import orjson

from api.http.json_documents import parse_json
from api.http.parameters import parse_formats, parse_parameters
from api.jobs.recut import RecutWish
from api.quoting import quote
from shared.errors import BadParameter, BodyTooLarge, EmptyBody, UnknownParameter, UnreadableBody
from shared.formats.registry import select_formats
from shared.jobs.parameters import FIELDS

MAX_BODY_BYTES: Final = 16 * 1024
MAX_PREVIEW_SIDE: Final = 4096
MEMBERS: Final = (*FIELDS, "formats", "max_side", "store")


def parse_recut(body: bytes) -> RecutWish:
    """Check the body of a recut; absent members have the defaults of a new job.

    Raises:
        EmptyBody, BodyTooLarge, UnreadableBody: it is no such object.
        UnknownParameter, BadParameter: a member is wrong.
    """
    members = _parse_members(body)
    formats = parse_formats(members.get("formats")) or select_formats(())
    wish = RecutWish(
        parse_parameters({name: value for name, value in members.items() if name in FIELDS}),
        formats,
        _parse_max_side(members.get("max_side")),
        _parse_store(members.get("store")),
    )
    if wish.is_stored and wish.max_side is not None:
        raise BadParameter("store: a preview cannot be stored; leave max_side out.")
    return wish


def _parse_members(body: bytes) -> Mapping[str, object]:
    if not body.strip():
        raise EmptyBody("The request has no body; send a JSON object, such as {}.")
    if len(body) > MAX_BODY_BYTES:
        raise BodyTooLarge(f"The body of a recut has at most {MAX_BODY_BYTES} bytes, not {len(body)}.")
    try:
        members = parse_json(body)
    except (orjson.JSONDecodeError, UnicodeDecodeError) as error:
        raise UnreadableBody("The body is not JSON; send a JSON object, such as {}.") from error
    if not isinstance(members, dict):
        raise UnreadableBody("The body must be a JSON object, such as {}.")
    unknown = next((name for name in members if name not in MEMBERS), None)
    if unknown is not None:
        raise UnknownParameter(f"There is no member {quote(unknown)} of a recut; known are {', '.join(MEMBERS)}.")
    return members


def _parse_max_side(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_PREVIEW_SIDE:
        raise BadParameter(f"max_side must be a whole number from 1 to {MAX_PREVIEW_SIDE}, not {quote(value)}.")
    return value


def _parse_store(value: object) -> bool:
    if value is not None and not isinstance(value, bool):
        raise BadParameter(f"store must be true or false, not {quote(value)}.")
    return bool(value)
