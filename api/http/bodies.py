"""Reading a request's body: a raw image, JSON with base64, bare base64, or a form, told apart by the bytes.

Clients of the Hugging Face task label their bodies with almost any Content-Type, so only a form's is believed.
No Flask here, and nothing that a caller names is ever fetched or opened.
"""

import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from shared.errors import BadParameter, ClientError, EmptyBody, UnknownParameter, UnreadableBody
from shared.images import FORMATS, detect_image_format
from shared.jobs.parameters import SWITCHES, SegmentParameters, Subtask

_IMAGE_FIELDS = ("inputs", "image", "file")
_MOST_FORM_PARTS = 32
_MOST_QUOTED = 40  # characters of a caller's own text in an error

_SPACE = b" \t\r\n\f\v"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DATA_URL = re.compile(rb"data:[^,]{0,200};base64,", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_LOCATION = re.compile(rb"[a-zA-Z][a-zA-Z0-9+.-]*://|[./~\\]|[a-zA-Z]:\\|.{1,250}\.[a-zA-Z]{2,5}$")
# How images begin once `curl -d` has taken every CR, LF and NUL out of them.
_STRIPPED_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*", b"MM*")

_BYTES_ONLY = "Send the image itself, as its bytes or as base64: no URL is fetched and no path is opened here."


@dataclass(frozen=True, slots=True)
class Submission:
    """What a body holds.

    image: the file's bytes; whether they are an image is for api/jobs/inspection.py to say.
    parameters: as they came, of JSON's types; see parse_parameters().
    model: the model that the body asks for.
    options: those of the older Hugging Face clients, such as wait_for_model.
    """

    image: bytes
    parameters: Mapping[str, object] = field(default_factory=dict)
    model: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)


def read_body(body: bytes, content_type: str, query: Mapping[str, str]) -> Submission:
    """Find the image and its parameters in a body.

    Args:
        content_type: the header as sent, or empty.
        query: the parameters from the URL's query; those in the body go before them.

    Raises:
        EmptyBody: nothing was sent.
        UnreadableBody: neither an image, nor JSON, nor base64, nor a form.
        BadParameter: `parameters`, `options` or `model` are of the wrong type.
    """
    defaults = {name: _typed(text) for name, text in query.items()}
    boundary = _boundary(content_type)
    # A boundary that does not occur means that the header is wrong, as it may be with any other type.
    if boundary and b"--" + boundary in body:
        return _from_form(body, boundary, defaults)
    start = body.removeprefix(_BYTE_ORDER_MARK).lstrip(_SPACE)
    if not start:
        raise EmptyBody(f"The body is empty. {_BYTES_ONLY}")
    if start.startswith(b"{"):
        return _from_json(start, defaults)
    return Submission(_from_raw(body), defaults)


def parse_parameters(raw: Mapping[str, object]) -> SegmentParameters:
    """Check the parameters of a Submission; null and missing ones take the pipeline's defaults.

    Raises:
        UnknownParameter: there is no such parameter.
        BadParameter: a value is out of range or of the wrong type.
    """
    known = list(SegmentParameters.__dataclass_fields__)
    unknown = [name for name in raw if name not in known]
    if unknown:
        raise UnknownParameter(f"There is no parameter {_quoted(unknown[0])}; known are {', '.join(known)}")
    given = {name: value for name, value in raw.items() if value is not None}
    checked: dict[str, Any] = {name: _CHECKS.get(name, _share)(name, value) for name, value in given.items()}
    return SegmentParameters(**checked)


def _share(name: str, value: object) -> float:
    # Written so that NaN fails; a bool is an int to Python, but not to the caller.
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    raise BadParameter(f"{name} must be a number from 0 to 1, not {_quoted(value)}")


def _switch(name: str, value: object) -> bool:
    # A query and a form have texts only.
    known = value.lower() if isinstance(value, str) else value
    if isinstance(known, bool) or known in ("true", "false"):
        return known in (True, "true")
    raise BadParameter(f"{name} must be true or false, not {_quoted(value)}")


def _subtask(_name: str, value: object) -> Subtask:
    if isinstance(value, str) and value in list(Subtask):
        return Subtask(value)
    raise BadParameter(f"subtask must be one of {', '.join(Subtask)}, not {_quoted(value)}")


_CHECKS: Mapping[str, Callable[[str, object], object]] = {
    "subtask": _subtask,
    **dict.fromkeys(SWITCHES, _switch),
}


def _quoted(value: object) -> str:
    text = repr(value) if isinstance(value, str | bool | int | float) else f"a {_JSON_NAMES.get(type(value), 'value')}"
    return text if len(text) <= _MOST_QUOTED else f"{text[:_MOST_QUOTED]}..."


_JSON_NAMES: Mapping[type, str] = {list: "list", dict: "JSON object", type(None): "null"}


def _typed(text: str) -> object:
    """Give a text from a query or a form field the type that it would have had in JSON; empty means unset."""
    if not text:
        return None
    return float(text) if _NUMBER.fullmatch(text) else text


def _from_json(body: bytes, defaults: Mapping[str, object]) -> Submission:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UnreadableBody(f"The body begins like JSON, but is not: {error.msg}") from error
    inputs = document.get("inputs", document.get("image"))
    if inputs is None:
        raise UnreadableBody("The JSON body has no `inputs`: put the image there, in base64")
    if not isinstance(inputs, str):
        raise UnreadableBody(f"`inputs` must be a string, the image in base64, not {_quoted(inputs)}")
    return Submission(
        image=_from_base64(_encoded(inputs), "`inputs`"),
        parameters=_merged(defaults, _mapping("parameters", document.get("parameters"))),
        model=_model(document.get("model")),
        options=_mapping("options", document.get("options")),
    )


def _from_form(body: bytes, boundary: bytes, defaults: Mapping[str, object]) -> Submission:
    images: list[bytes] = []
    model: str | None = None
    single: dict[str, object] = {}
    whole: Mapping[str, object] = {}
    for name, content in _form_parts(body, boundary):
        if name in _IMAGE_FIELDS:
            images.append(content)
        elif name == "parameters":
            whole = _mapping(name, _json_field(name, content))
        elif name == "model":
            model = content.decode("utf-8", "replace") or None
        else:
            single[name] = _typed(content.decode("utf-8", "replace"))
    if len(images) != 1:
        fields = ", ".join(f"`{name}`" for name in _IMAGE_FIELDS)
        raise UnreadableBody(f"The form has {len(images)} images; send exactly one, in a field {fields}")
    if not images[0]:
        raise EmptyBody("The image in the form is empty")
    return Submission(_from_raw(images[0]), _merged(defaults, {**single, **whole}), model)


def _form_parts(body: bytes, boundary: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each part; of a file as of a field, for some clients send images without a name.

    Raises:
        UnreadableBody: the form is broken, or has too many parts.
    """
    decoder = MultipartDecoder(boundary, max_parts=_MOST_FORM_PARTS)
    name, content = "", b""
    try:
        decoder.receive_data(body)
        decoder.receive_data(None)
        while not isinstance(event := decoder.next_event(), Epilogue | NeedData):
            if isinstance(event, Field | File):
                name, content = event.name or "", b""
            elif isinstance(event, Data):
                content += event.data
                if not event.more_data:
                    yield name, content
    except RequestEntityTooLarge as error:
        raise UnreadableBody(f"The form has more than {_MOST_FORM_PARTS} parts") from error
    except ClientError:
        raise
    except Exception as error:  # hostile part headers raise almost anything
        raise UnreadableBody("The form is broken: it does not hold together as multipart/form-data") from error


def _boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    if kind.lower() != "multipart/form-data":
        return b""
    return options.get("boundary", "").encode("ascii", "ignore")


def _from_raw(body: bytes) -> bytes:
    """Return the image that a body or a form's file is, or holds in base64."""
    if _was_stripped(body):
        raise UnreadableBody(
            "The image was damaged on its way: its line ends and zero bytes are gone, which is what `curl -d` does; "
            "use `curl --data-binary @file`"
        )
    if detect_image_format(body) is not None:
        return body
    if body.isascii():
        return _from_base64(body, "the body")
    raise UnreadableBody(
        f"The body is neither a {FORMATS} image, nor JSON with `inputs`, nor base64, nor a multipart form"
    )


def _was_stripped(body: bytes) -> bool:
    # Every one of these formats has zero bytes in its first header.
    return body.startswith(_STRIPPED_SIGNATURES) and not any(lost in body for lost in (b"\x00", b"\r", b"\n"))


def _from_base64(text: bytes, where: str) -> bytes:
    """Decode standard base64, with or without a data URL's prefix, line breaks and padding."""
    packed = text.translate(None, _SPACE)
    prefix = _DATA_URL.match(packed)
    packed = (packed[prefix.end() :] if prefix else packed).rstrip(b"=")
    if not packed:
        raise EmptyBody(f"{where} is empty. {_BYTES_ONLY}")
    try:
        image = binascii.a2b_base64(packed + b"=" * (-len(packed) % 4), strict_mode=True)
    except binascii.Error as error:
        raise _no_base64(packed, where) from error
    # Many a path is base64 by its letters.
    if detect_image_format(image) is None and _LOCATION.match(packed):
        raise _no_base64(packed, where)
    return image


def _no_base64(packed: bytes, where: str) -> UnreadableBody:
    if len(packed) <= 4096 and _LOCATION.match(packed):
        return UnreadableBody(f"{where} looks like a URL or a path. {_BYTES_ONLY}")
    return UnreadableBody(f"{where} is neither a {FORMATS} image nor one in standard base64")


def _encoded(text: str) -> bytes:
    # What is not ASCII cannot be base64: the replacement keeps it from passing.
    return text.encode("ascii", "replace")


def _json_field(name: str, content: bytes) -> object:
    try:
        return orjson.loads(content or b"null")
    except orjson.JSONDecodeError as error:
        raise BadParameter(f"the form's field `{name}` must be JSON: {error.msg}") from error


def _mapping(name: str, value: object) -> Mapping[str, object]:
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    raise BadParameter(f"`{name}` must be a JSON object, not {_quoted(value)}")


def _model(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    raise BadParameter(f"`model` must be a string, not {_quoted(value)}")


def _merged(defaults: Mapping[str, object], given: Mapping[str, object]) -> Mapping[str, object]:
    """Return the given parameters over the defaults; a null leaves the default as it is."""
    return {**defaults, **{name: value for name, value in given.items() if value is not None or name not in defaults}}
