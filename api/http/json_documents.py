"""JSON that a client sent: bounded before it is parsed, without a member that is given twice or a rounded integer."""

import json

import orjson

from api.http.parameters import check_given_once
from shared.errors import BadParameter, UnreadableBody

_MAX_MEMBERS = 10_000  # of all its lists and objects together
_MAX_DIGITS = 20  # of an integer of 64 bits, with its sign


def parse_json(text: bytes) -> object:
    """Parse a JSON text (RFC 8259).

    Raises:
        orjson.JSONDecodeError: it is not JSON.
        UnreadableBody: it has too many members, or too many lists and objects inside one another.
        BadParameter: an object has a member twice, or an integer has more than 64 bits.
    """
    _check_members(text)
    # Twice, because the document is as large as the text, and the second parser needs twice as much beside it.
    orjson.loads(text)
    _check_repetitions(text)
    return orjson.loads(text)


def _check_members(text: bytes) -> None:
    """Refuse JSON with too many members before it is parsed: each takes 50 bytes and more.

    Raises:
        UnreadableBody: there are too many.
    """
    if sum(text.count(character) for character in (b",", b"[", b"{")) > _MAX_MEMBERS:
        raise UnreadableBody(
            f"The JSON has more than {_MAX_MEMBERS} members; send the image in `inputs`, one string in base64"
        )


def _check_repetitions(text: bytes) -> None:
    """Parse valid JSON a second time: of a member that is given twice, orjson takes the last without a word.

    Raises:
        BadParameter: there is such a member, or an integer that orjson would round.
        UnreadableBody: this parser does not go as deep as orjson.
    """
    try:
        # The length stands for a fraction: one of thousands of digits would take long to convert.
        json.loads(text.decode(), object_pairs_hook=_check_object, parse_int=_check_integer, parse_float=len)
    except RecursionError as error:
        raise UnreadableBody("The JSON has too many lists and objects inside one another.") from error


def _check_integer(digits: str) -> int:
    """Refuse an integer that orjson would round: what a client stores with a job is returned as it was given.

    Raises:
        BadParameter: it has more than 64 bits.
    """
    value = int(digits) if len(digits) <= _MAX_DIGITS else 2**64
    if not -(2**63) <= value < 2**64:
        raise BadParameter("The JSON has an integer of more than 64 bits, which would be rounded; send it as a text.")
    return value


def _check_object(members: list[tuple[str, object]]) -> None:
    check_given_once([name for name, _ in members], "in the JSON")
