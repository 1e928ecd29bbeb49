"""Parsing a request's body: a raw image, JSON with base64, bare base64, or a form, distinguished by the bytes.

Clients of the Hugging Face task send almost any Content-Type, so only that of a form is used.
No Flask here, and no URL or path in a body is ever fetched or opened.
"""

import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain

import orjson
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData

from api.http.parameters import quote
from shared.errors import BadParameter, ClientError, EmptyBody, UnreadableBody
from shared.images.formats import FORMATS, detect_image_format

_FORMATS = "formats"
_IMAGE_FIELDS = ("inputs", "image", "file")
_IMAGE_FIELD_NAMES = ", ".join(f"`{name}`" for name in _IMAGE_FIELDS)
_MAX_FORM_PARTS = 32
# A delimiter may be followed by blanks (RFC 2046, section 5.1.1).
_MAX_PADDING_BYTES = 256
_FORM_PIECE_BYTES = 1 << 16
# Beyond these the parsers of form and JSON take many times as much memory as the body.
_MAX_PART_HEADER_BYTES = 8192
_MAX_FIELD_BYTES = 65_536  # of a form's field that is not the image
_MAX_JSON_MEMBERS = 10_000  # of all its lists and objects together

_BLANK_LINES = (b"\r\n\r\n", b"\n\n", b"\r\r")
_SPACE = b" \t\r\n\f\v"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Every repetition is bounded, so that no text takes longer than its length
# (tests/unit/test_linear_patterns.py).
_DATA_URL = re.compile(rb"data:[^,]{0,200};base64,", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,4})?")
_LOCATION = re.compile(rb"[a-zA-Z][a-zA-Z0-9+.-]{0,40}://|[./~\\]|[a-zA-Z]:\\|.{1,250}\.[a-zA-Z]{2,5}$")
# How images begin after `curl -d` has removed every CR, LF and NUL from them.
_STRIPPED_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*", b"MM*")

_BYTES_ONLY = "Send the image itself, as its bytes or as base64: no URL is fetched and no path is opened here."


@dataclass(frozen=True, slots=True)
class ParsedBody:
    """The content of a body.

    image: the file's bytes; api/jobs/inspection.py decides whether they are an image.
    parameters: unchecked, of JSON's types; see parse_parameters().
    model: the model that the body names.
    options: those of the older Hugging Face clients, such as wait_for_model.
    formats: unchecked; see parse_formats().
    """

    image: bytes
    parameters: Mapping[str, object] = field(default_factory=dict)
    model: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    formats: object = None


def parse_body(body: bytes, content_type: str, query: Mapping[str, str]) -> ParsedBody:
    """Find the image and its parameters in a body.

    Args:
        content_type: the header as sent, or empty.
        query: the parameters of the URL's query; those in the body override them.

    Raises:
        EmptyBody: the body, or the image in it, is empty.
        UnreadableBody: neither an image, nor JSON, nor base64, nor a form; or a form or JSON of too many parts.
        BadParameter: `parameters`, `options` or `model` are of the wrong type.
    """
    defaults = {name: _parse_text(text) for name, text in query.items() if name != _FORMATS}
    parsed = _parse(body, content_type, defaults)
    return parsed if parsed.formats is not None else replace(parsed, formats=query.get(_FORMATS))


def _parse(body: bytes, content_type: str, defaults: Mapping[str, object]) -> ParsedBody:
    boundary = _parse_boundary(content_type)
    # A boundary that does not occur means that the header is wrong, as with any other Content-Type.
    if boundary and b"--" + boundary in body:
        return _parse_form(body, boundary, defaults)
    start = body.removeprefix(_BYTE_ORDER_MARK).lstrip(_SPACE)
    if not start:
        raise EmptyBody(f"The body is empty. {_BYTES_ONLY}")
    if start.startswith(b"{"):
        return _parse_json(start, defaults)
    return ParsedBody(_extract_image(body), defaults)


def _parse_text(text: str) -> object:
    """Return a number for the text of a query or a form field that is one, None for an empty text, else the text."""
    if not text:
        return None
    return float(text) if _NUMBER.fullmatch(text) else text


def _parse_json(body: bytes, defaults: Mapping[str, object]) -> ParsedBody:
    _check_members(body)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UnreadableBody(f"The body begins like JSON, but is not: {error.msg}") from error
    inputs = document.get("inputs", document.get("image"))
    if inputs is None:
        raise UnreadableBody("The JSON body has no `inputs`: put the image there, in base64")
    if not isinstance(inputs, str):
        raise UnreadableBody(f"`inputs` must be a string, the image in base64, not {quote(inputs)}")
    # The replacement character is not in base64's alphabet, so text beyond ASCII is rejected.
    return ParsedBody(
        image=_decode_base64(inputs.encode("ascii", "replace"), "`inputs`"),
        parameters=_merge(defaults, _check_object("parameters", document.get("parameters"))),
        model=_check_model(document.get("model")),
        options=_check_object("options", document.get("options")),
        formats=document.get(_FORMATS),
    )


def _check_members(body: bytes) -> None:
    """Refuse JSON with too many members before it is parsed: each takes 50 bytes and more.

    Raises:
        UnreadableBody: there are too many.
    """
    if sum(body.count(character) for character in (b",", b"[", b"{")) > _MAX_JSON_MEMBERS:
        raise UnreadableBody(
            f"The JSON has more than {_MAX_JSON_MEMBERS} members; send the image in `inputs`, one string in base64"
        )


def _parse_form(body: bytes, boundary: bytes, defaults: Mapping[str, object]) -> ParsedBody:
    images: list[bytes] = []
    model: str | None = None
    fields: dict[str, object] = {}
    parameters: Mapping[str, object] = {}
    for name, content in _form_parts(body, boundary):
        if name in _IMAGE_FIELDS:
            images.append(content)
        elif len(content) > _MAX_FIELD_BYTES:
            raise UnreadableBody(
                f"The form's field {quote(name)} has more than {_MAX_FIELD_BYTES} bytes; "
                f"only the image may be longer, in a field {_IMAGE_FIELD_NAMES}"
            )
        elif name == "parameters":
            parameters = _check_object(name, _parse_json_field(name, content))
        elif name == "model":
            model = content.decode("utf-8", "replace") or None
        else:
            fields[name] = _parse_text(content.decode("utf-8", "replace"))
    if len(images) != 1:
        raise UnreadableBody(f"The form has {len(images)} images; send exactly one, in a field {_IMAGE_FIELD_NAMES}")
    if not images[0]:
        raise EmptyBody("The image in the form is empty")
    formats = fields.pop(_FORMATS, None)
    return ParsedBody(_extract_image(images[0]), _merge(defaults, {**fields, **parameters}), model, formats=formats)


def _form_parts(body: bytes, boundary: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each part, file or field: some clients send images without a file name.

    Raises:
        UnreadableBody: the form is malformed, or has too many parts or headers.
    """
    _check_parts(body, b"--" + boundary)
    name = ""
    content: list[bytes] = []
    try:
        for event in _decode_form(body, boundary):
            if isinstance(event, Field | File):
                name, content = event.name or "", []
            elif isinstance(event, Data):
                content.append(event.data)
                if not event.more_data:
                    yield name, b"".join(content)
    except RequestEntityTooLarge as error:
        raise _too_many_parts_error() from error
    except ClientError:
        raise
    except Exception as error:  # hostile part headers raise various exceptions
        raise UnreadableBody("The form is broken: it does not hold together as multipart/form-data") from error


def _decode_form(body: bytes, boundary: bytes) -> Iterator[Event]:
    """Yield the events of a form, which is decoded by pieces.

    In one piece a regular expression is searched in all of it, which holds up every other thread meanwhile.
    """
    decoder = MultipartDecoder(boundary, max_parts=_MAX_FORM_PARTS)
    for piece in chain(_split_form(body, b"--" + boundary), (None,)):
        decoder.receive_data(piece)
        while not isinstance(event := decoder.next_event(), Epilogue | NeedData):
            yield event


def _split_form(body: bytes, delimiter: bytes) -> Iterator[bytes]:
    """Yield the pieces of a form; none ends in the line of a delimiter.

    If one does, werkzeug 3.1 takes the line end before the delimiter for a byte of the content.
    """
    start = 0
    while start < len(body):
        end = start + _FORM_PIECE_BYTES
        line_start = body.rfind(delimiter, max(start, end - len(delimiter) - _MAX_PADDING_BYTES), end)
        if line_start >= 0:
            line_end = line_start + len(delimiter) + _MAX_PADDING_BYTES
            newline = body.find(b"\n", line_start, line_end)
            end = max(end, line_end if newline < 0 else newline + 1)
        yield body[start:end]
        start = end


def _check_parts(body: bytes, delimiter: bytes) -> None:
    """Refuse forms whose parts are too many, or begin with headers that are too long, before they are parsed.

    Raises:
        UnreadableBody: the form is such a one.
    """
    position = 0
    for _ in range(_MAX_FORM_PARTS + 2):  # the last delimiter, and none
        position = body.find(delimiter, position)
        if position < 0:
            return
        position += len(delimiter)
        head = body[position : position + _MAX_PART_HEADER_BYTES]
        is_last = head.startswith(b"--")
        if not is_last and len(head) == _MAX_PART_HEADER_BYTES and not any(end in head for end in _BLANK_LINES):
            raise UnreadableBody(f"A part of the form has more than {_MAX_PART_HEADER_BYTES} bytes of headers")
    raise _too_many_parts_error()


def _too_many_parts_error() -> UnreadableBody:
    return UnreadableBody(f"The form has more than {_MAX_FORM_PARTS} parts")


def _parse_boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    if kind.lower() != "multipart/form-data":
        return b""
    return options.get("boundary", "").encode("ascii", "ignore")


def _extract_image(body: bytes) -> bytes:
    """Return the image that a body or a form's file is or, decoded, the one that it holds in base64."""
    if _is_stripped(body):
        raise UnreadableBody(
            "The image was damaged on its way: its line ends and zero bytes are gone, which is what `curl -d` does; "
            "use `curl --data-binary @file`"
        )
    if detect_image_format(body) is not None:
        return body
    if body.isascii():
        return _decode_base64(body, "the body")
    raise UnreadableBody(
        f"The body is neither a {FORMATS} image, nor JSON with `inputs`, nor base64, nor a multipart form"
    )


def _is_stripped(body: bytes) -> bool:
    # Each of these formats has zero bytes in its first header.
    return body.startswith(_STRIPPED_SIGNATURES) and not any(removed in body for removed in (b"\x00", b"\r", b"\n"))


def _decode_base64(text: bytes, where: str) -> bytes:
    """Decode standard base64 (RFC 4648, section 4), with or without a data URL's prefix, line breaks and padding."""
    packed = text.translate(None, _SPACE)
    prefix = _DATA_URL.match(packed)
    packed = (packed[prefix.end() :] if prefix else packed).rstrip(b"=")
    if not packed:
        raise EmptyBody(f"{where} is empty. {_BYTES_ONLY}")
    try:
        image = binascii.a2b_base64(packed + b"=" * (-len(packed) % 4), strict_mode=True)
    except binascii.Error as error:
        raise _base64_error(packed, where) from error
    # Many paths consist of characters of base64 only.
    if detect_image_format(image) is None and _LOCATION.match(packed):
        raise _base64_error(packed, where)
    return image


def _base64_error(packed: bytes, where: str) -> UnreadableBody:
    if len(packed) <= 4096 and _LOCATION.match(packed):
        return UnreadableBody(f"{where} looks like a URL or a path. {_BYTES_ONLY}")
    return UnreadableBody(f"{where} is neither a {FORMATS} image nor one in standard base64")


def _parse_json_field(name: str, content: bytes) -> object:
    _check_members(content)
    try:
        return orjson.loads(content or b"null")
    except orjson.JSONDecodeError as error:
        raise BadParameter(f"the form's field `{name}` must be JSON: {error.msg}") from error


def _check_object(name: str, value: object) -> Mapping[str, object]:
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    raise BadParameter(f"`{name}` must be a JSON object, not {quote(value)}")


def _check_model(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    raise BadParameter(f"`model` must be a string, not {quote(value)}")


def _merge(defaults: Mapping[str, object], given: Mapping[str, object]) -> Mapping[str, object]:
    """Return the defaults, overridden by the given parameters; a null keeps the default."""
    return {**defaults, **{name: value for name, value in given.items() if value is not None or name not in defaults}}
