"""JSON that a client sent: bounded before it is parsed, and without a member that is given twice."""

import json

import orjson

from api.http.parameters import check_given_once
from shared.errors import UnreadableBody

_MAX_MEMBERS = 10_000  # of all its lists and objects together


def parse_json(text: bytes) -> object:
    """Parse a JSON text (RFC 8259).

    Raises:
        orjson.JSONDecodeError: it is not JSON.
        UnreadableBody: it has too many members, or too many lists and objects inside one another.
        BadParameter: an object has a member twice.
    """
    _check_members(text)
    document = orjson.loads(text)
    _check_repetitions(text)
    return document


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
        BadParameter: there is such a member.
        UnreadableBody: this parser does not go as deep as orjson.
    """
    try:
        # The length stands for a number: one of thousands of digits would take long to convert.
        json.loads(text.decode(), object_pairs_hook=_check_object, parse_int=len, parse_float=len)
    except RecursionError as error:
        raise UnreadableBody("The JSON has too many lists and objects inside one another.") from error


def _check_object(members: list[tuple[str, object]]) -> None:
    check_given_once([name for name, _ in members], "in the JSON")
