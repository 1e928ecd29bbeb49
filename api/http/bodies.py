"""Parsing a request's body: a raw image, JSON with base64, bare base64, or a form, distinguished by the bytes.

Clients of the Hugging Face task send almost any Content-Type, so only that of a form is used.
No Flask here, and no URL or path in a body is ever fetched or opened.
"""

import re
from codecs import BOM_UTF8
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import orjson

from api.http.base64_text import BYTES_ONLY, decode_base64, location_error
from api.http.form_images import FormImage, read_images
from api.http.json_documents import parse_json
from api.http.members import MEMBERS, check_model, check_object, check_places, list_common, list_unknown, merge
from api.http.multipart import MAX_PARTS, Part, find_boundary, split_form
from api.http.not_images import explain_content, explain_json, is_location
from api.http.parameters import check_given_once
from api.http.references import REFERENCE_MEMBERS, find_reference
from api.http.unicode_text import convert_to_utf8
from api.http.urlencoded import is_urlencoded, split_fields
from api.jobs.references import InputReference
from api.quoting import quote
from api.schemas.query import check_names
from shared.errors import BadParameter, EmptyBody, UnreadableBody
from shared.images.formats import FORMATS, detect_image_format
from shared.images.refused import explain_refusal
from shared.jobs.parameters import FIELDS

_FORMATS = "formats"
_MODEL = "model"
_JSON_FIELDS = ("parameters", "options")
_IMAGE_FIELDS = ("inputs", "image", "file")
_IMAGE_FIELD_NAMES = ", ".join(f"`{name}`" for name in _IMAGE_FIELDS)
_MAX_FIELD_BYTES = 65_536  # of a form's field that is not the image

# Every repetition is bounded, so that no text takes longer than its length
# (tests/unit/shared/test_linear_patterns.py).
_NUMBER = re.compile(r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,4})?")
# How images begin after `curl -d` has removed every CR, LF and NUL from them.
_STRIPPED_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*", b"MM*")


@dataclass(frozen=True, slots=True)
class ParsedBody:
    """The content of a body.

    image: the file's bytes; shared/jobs/inspection.py decides whether they are an image.
    parameters: unchecked, of JSON's types; see parse_parameters().
    model: the model that the body names.
    options: of the older Hugging Face clients, unchecked; see parse_options().
    formats: unchecked; see parse_formats().
    job: options of a job, unchecked; see parse_job_options().
    unknown: members of a JSON body, and `options.NAME`, that mean nothing here.
    overridden: parameters of the query that the JSON body has too.
    images: those of a form that has several; then `image` is empty.
    reference: what the body names in place of an image, which is empty then.
    beside: names that the body takes beside those of `parameters`, for errors.
    """

    image: bytes
    parameters: Mapping[str, object] = field(default_factory=dict)
    model: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    formats: object = None
    job: Mapping[str, object] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    overridden: tuple[str, ...] = ()
    images: tuple[FormImage, ...] = ()
    reference: InputReference | None = None
    beside: tuple[str, ...] = field(default=(), compare=False)


def parse_body(
    body: bytes,
    content_type: str,
    query: Mapping[str, str],
    *,
    job_members: Collection[str] = (),
    max_images: int = 1,
    takes_references: bool = False,
) -> ParsedBody:
    """Find the image and its parameters in a body.

    Args:
        content_type: the header as sent, or empty.
        query: the parameters of the URL's query, which is part of the address that a client was given; those in a
            JSON body override them.
        job_members: names of the options of a job, if the route takes them; elsewhere they mean nothing.
        max_images: of a form.
        takes_references: whether a JSON body or a form may name an image in place of holding it.

    Raises:
        EmptyBody: the body, or the image in it, is empty.
        UnreadableBody: neither an image, nor JSON, nor base64, nor a form; or a form or JSON of too many parts.
        BadParameter: `parameters`, `options` or `model` are of the wrong type; or a member or a field is given twice,
            or stands where it does not belong.
        UnknownParameter: the query has a name that means nothing.
    """
    check_names(query, (*FIELDS, _FORMATS, *job_members))
    defaults = {name: _parse_query(name, text, job_members) for name, text in query.items()}
    boundary = find_boundary(body, content_type)
    if boundary:
        form = split_form(body, boundary, max_parts=MAX_PARTS - 1 + max_images)
        return _parse_form(form, defaults, job_members, max_images, takes_references)
    body = convert_to_utf8(body)
    start = body.removeprefix(BOM_UTF8).lstrip()
    if not start:
        raise EmptyBody(f"The body is empty. {BYTES_ONLY}")
    if start.startswith(b"{"):
        return _parse_json(start, defaults, job_members, takes_references)
    if is_urlencoded(start, content_type):
        parts = _url_parts(start, takes_references)
        return _parse_form(parts, defaults, job_members, max_images, takes_references)
    return _build(_extract_image(body, "The body"), defaults, job_members)


def _build(
    image: bytes,
    given: Mapping[str, object],
    job_members: Collection[str],
    *,
    model: str | None = None,
    options: Mapping[str, object] | None = None,
    unknown: tuple[str, ...] = (),
    overridden: tuple[str, ...] = (),
    reference: InputReference | None = None,
) -> ParsedBody:
    """Return the content of a body; `formats`, and the options of a job, are given among the parameters."""
    job = {name: value for name, value in given.items() if name in job_members and value is not None}
    return ParsedBody(
        image,
        {name: value for name, value in given.items() if name != _FORMATS and name not in job_members},
        check_model(job.pop(_MODEL, model)),
        options or {},
        given.get(_FORMATS),
        job,
        unknown,
        overridden,
        reference=reference,
    )


def _parse_query(name: str, text: str, job_members: Collection[str]) -> object:
    """Return a parameter of the query; the options of a job stay texts, because some may look like numbers."""
    return (text.strip() or None) if name in job_members else _parse_text(text)


def _parse_text(text: str) -> object:
    """Return a number for the text of a query or a form field that is one, None for an empty text, else the text.

    Blanks and line ends around it do not count: shells, files and pages add them.
    """
    text = text.strip()
    if not text:
        return None
    return float(text) if _NUMBER.fullmatch(text) else text


def _parse_json(
    body: bytes, defaults: Mapping[str, object], job_members: Collection[str], takes_references: bool
) -> ParsedBody:
    try:
        document = dict(check_object("body", parse_json(body)))
    except orjson.JSONDecodeError as error:
        raise UnreadableBody(f"The body begins like JSON, but is not: {explain_json(body) or error.msg}") from error
    reference = find_reference(document.items()) if takes_references else None
    image = b"" if reference else decode_base64(_take_inputs(document), "`inputs`")
    if takes_references:
        document = {name: value for name, value in document.items() if name not in REFERENCE_MEMBERS}
    parameters, options = (check_object(name, document.get(name)) for name in _JSON_FIELDS)
    check_places(document, parameters, options, job_members)
    given = {**parameters, **{name: document.get(name) for name in (_FORMATS, *job_members)}}
    return _build(
        image,
        merge(defaults, given),
        job_members,
        model=check_model(document.get(_MODEL)),
        options=options,
        unknown=tuple(list_unknown(document, options, job_members)),
        overridden=tuple(list_common(defaults, given)),
        reference=reference,
    )


def _take_inputs(document: dict[str, object]) -> bytes:
    """Remove the text of the image from a JSON body, so that it is held once while it is decoded, and return it."""
    inputs, image = document.pop("inputs", None), document.pop("image", None)
    if inputs is not None and image is not None:
        raise BadParameter("The image is given twice, as `inputs` and as `image`; give it once.")
    text = image if inputs is None else inputs
    if text is None:
        raise UnreadableBody("The JSON body has no `inputs`: put the image there, in base64")
    if not isinstance(text, str):
        raise UnreadableBody(f"`inputs` must be a string, the image in base64, not {quote(text)}")
    # The replacement character is not in base64's alphabet, so text beyond ASCII is rejected.
    return text.encode("ascii", "replace")


def _url_parts(body: bytes, takes_references: bool) -> Iterator[Part]:
    kept = (*_IMAGE_FIELDS, *REFERENCE_MEMBERS) if takes_references else _IMAGE_FIELDS
    fields = split_fields(body, kept=kept, max_fields=MAX_PARTS, max_field_bytes=_MAX_FIELD_BYTES)
    return (Part(name, None, content) for name, content in fields)


def _is_image(part: Part) -> bool:
    return part.name in _IMAGE_FIELDS


def _is_unused(part: Part) -> bool:
    """Tell whether a part stands for an input of the page for which no file was chosen; its field has any name."""
    # Browsers send such a part without a file name (HTML standard, "constructing the entry list").
    return not part.content and not part.filename and (part.filename is not None or _is_image(part))


def _parse_form(
    form: Iterable[Part],
    query: Mapping[str, object],
    job_members: Collection[str],
    max_images: int,
    takes_references: bool,
) -> ParsedBody:
    parts = list(form)
    reference = None
    if takes_references:
        reference = find_reference(_list_texts(parts))
        parts = [part for part in parts if part.name not in REFERENCE_MEMBERS]
    images = () if reference else _find_images(parts, job_members, max_images)
    fields = _read_fields([part for part in parts if not _is_image(part) and not _is_unused(part)], job_members)
    # Where the query may name a model too, it is one of the options of a job.
    model = None if _MODEL in job_members else check_model(fields.pop(_MODEL, None))
    parameters, options = (check_object(name, fields.pop(name, None)) for name in _JSON_FIELDS)
    check_places({}, parameters, options, job_members)
    given = _merge_given(query, fields, parameters)
    unknown = tuple(list_unknown({}, options))
    several = read_images(images, _extract_image) if len(images) > 1 else ()
    content = b"" if several or reference else _extract_image(images[0].content, "The form's image")
    parsed = _build(content, given, job_members, model=model, options=options, unknown=unknown)
    beside = (*_JSON_FIELDS, _FORMATS, *dict.fromkeys((_MODEL, *job_members)))
    return replace(parsed, images=several, reference=reference, beside=beside)


def _merge_given(
    query: Mapping[str, object], fields: Mapping[str, object], parameters: Mapping[str, object]
) -> Mapping[str, object]:
    """Return what the query, the fields of the form and its field `parameters` give; nothing may be given twice."""
    for name in list_common(fields, parameters):
        raise BadParameter(f"{quote(name)} is given twice in the form; give it once.")
    in_form = merge(fields, parameters)
    for name in list_common(query, in_form):
        raise BadParameter(f"{quote(name)} is given twice, in the query and in the form; give it once.")
    return merge(query, in_form)


def _list_texts(parts: Iterable[Part]) -> Iterator[tuple[str, object]]:
    """Yield the fields of a form that are used, with their texts; of files and of long texts, an empty one."""
    for part in parts:
        if not _is_unused(part):
            is_text = part.filename is None and len(part.content) <= _MAX_FIELD_BYTES
            yield part.name, part.content.decode("utf-8", "replace") if is_text else ""


def _find_images(parts: Sequence[Part], job_members: Collection[str], max_images: int) -> Sequence[Part]:
    images = [part for part in parts if _is_image(part) and not _is_unused(part)]
    if not images and any(_is_unused(part) for part in parts):
        raise EmptyBody(f"No image was chosen in the form: choose one, in a field {_IMAGE_FIELD_NAMES}")
    known = (*_IMAGE_FIELDS, *MEMBERS, *FIELDS, *job_members)
    strays = [part.name for part in parts if part.filename and part.name not in known]
    if images and strays:
        raise UnreadableBody(
            f"The form has two files, one in the field {quote(strays[0])}; send one image, in a field "
            f"{_IMAGE_FIELD_NAMES}"
        )
    _check_images(images, max_images)
    return images


def _check_images(images: Sequence[Part], max_images: int) -> None:
    if not 1 <= len(images) <= max_images:
        wanted = "exactly one" if not images or max_images == 1 else f"at most {max_images}"
        raise UnreadableBody(f"The form has {len(images)} images; send {wanted}, in a field {_IMAGE_FIELD_NAMES}")
    if len(images) == 1 and not images[0].content:
        raise EmptyBody("The image in the form is empty")


def _read_fields(parts: Sequence[Part], job_members: Collection[str]) -> dict[str, object]:
    """Return the fields of a form that are not its image, by name: JSON, a model, or parameters of the query's types.

    Raises:
        BadParameter: one is given twice, or is not the JSON that it must be.
        UnreadableBody: one is too long.
    """
    check_given_once([part.name for part in parts], "in the form")
    return {part.name: _read_field(part.name, part.content, job_members) for part in parts}


def _read_field(name: str, content: bytes, job_members: Collection[str]) -> object:
    if len(content) > _MAX_FIELD_BYTES:
        raise UnreadableBody(
            f"The form's field {quote(name)} has more than {_MAX_FIELD_BYTES} bytes; "
            f"only the image may be longer, in a field {_IMAGE_FIELD_NAMES}"
        )
    if name in _JSON_FIELDS:
        return _parse_json_field(name, content)
    text = content.decode("utf-8", "replace")
    return text if name == _MODEL else _parse_query(name, text, job_members)


def _extract_image(body: bytes, where: str) -> bytes:
    """Return the image that a body or a form's file is or, decoded, the one that it holds in base64.

    Args:
        where: the place of the bytes, at the beginning of a sentence.
    """
    if _is_stripped(body):
        raise UnreadableBody(
            "The image was damaged on its way: its line ends and zero bytes are gone, which is what `curl -d` does; "
            "use `curl --data-binary @file`"
        )
    if detect_image_format(body) is not None or explain_refusal(body) is not None:
        return body  # the inspection of the image names a format that is not supported
    text = body.removeprefix(BOM_UTF8)
    if text.isascii():
        return decode_base64(text, where)
    explanation = explain_content(body)
    if explanation is not None:
        raise UnreadableBody(f"{where} is {explanation}")
    if is_location(text):
        raise location_error(where)
    raise UnreadableBody(
        f"{where} is neither a {FORMATS} image, nor JSON with `inputs`, nor base64, nor a multipart form"
    )


def _is_stripped(body: bytes) -> bool:
    # Each of these formats has zero bytes in its first header.
    return body.startswith(_STRIPPED_SIGNATURES) and not any(removed in body for removed in (b"\x00", b"\r", b"\n"))


def _parse_json_field(name: str, content: bytes) -> object:
    try:
        return parse_json(content.strip() or b"null")
    except orjson.JSONDecodeError as error:
        raise BadParameter(f"the form's field `{name}` must be JSON: {error.msg}") from error
