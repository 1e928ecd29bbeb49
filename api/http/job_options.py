"""The options of a job: which there are, and their checks.  A query, a form and JSON give the same ones.

Pure.  Errors name the value and the known ones.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson
from pydantic import JsonValue, ValidationError

from api.http.json_documents import parse_json
from api.jobs.admission import JobOptions
from api.jobs.limits import OptionLimits
from api.quoting import quote
from shared.errors import BadParameter, MetadataTooLarge
from shared.jobs.format_options import FORMAT_OPTIONS, MAX_TOLERANCE, FormatOptions
from shared.jobs.model import Priority

JOB_MEMBERS: Final = (
    *("model", "priority", "deadline_seconds", "labels", "metadata", "webhook"),
    *("polygon_tolerance", "coco_polygons", "recut"),
)
"""Names of a query, of fields of a form, and of members of JSON; that of the model is read with the body."""

CANCEL_AFTER: Final = "Cancel-After"
RECUT_KINDS: Final = ("semantic",)
MAX_LABELS: Final = 256
MAX_LABEL_CHARACTERS: Final = 200
MAX_WEBHOOK_CHARACTERS: Final = 2048
MAX_METADATA_DEPTH: Final = 32

# Every repetition is bounded (tests/unit/shared/test_linear_patterns.py).
_SECONDS: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,6})?")
_DURATION: Final = re.compile(r"(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9}(?:\.[0-9]{1,6})?)s)?")
_SWITCHES: Final[Mapping[str, bool]] = {"true": True, "1": True, "false": False, "0": False}


def parse_job_options(raw: Mapping[str, object], cancel_after: str | None, limits: OptionLimits) -> JobOptions:
    """Check the options of a job; null and absent ones take their defaults.

    Args:
        raw: by name; texts of a query or a form, or values of JSON.
        cancel_after: the header Cancel-After, another spelling of `deadline_seconds`.

    Raises:
        BadParameter: a value is not one of its option.
        MetadataTooLarge: `metadata` has more bytes than the service takes.
    """

    def read(name: str, parse: Callable[[object], Any], default: Any) -> Any:
        value = raw.get(name)
        return default if value is None else parse(value)

    return JobOptions(
        priority=read("priority", _parse_priority, None),
        deadline_seconds=_choose_deadline(raw.get("deadline_seconds"), cancel_after, limits),
        labels=read("labels", _parse_labels, ()),
        format_options=_parse_format_options(raw),
        metadata=read("metadata", lambda value: parse_metadata(value, limits.metadata_bytes), {}),
        webhook=read("webhook", _parse_webhook, None),
        keeps_all_queries=read("recut", _parse_recut, False),
    )


def parse_duration(text: str) -> float | None:
    """Return the seconds of a duration: `90`, `30s`, `1m`, `2h`, `1h30m`; None if it is none.

    >>> parse_duration("1m30s"), parse_duration("2h"), parse_duration("soon")
    (90.0, 7200.0, None)
    """
    text = text.strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        return None
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds


def parse_metadata(value: object, max_bytes: int) -> Mapping[str, JsonValue]:
    """Return the caller's own JSON object; in a query or a form it is a text.

    Raises:
        BadParameter: it is no JSON object, or has too many objects and lists inside one another.
        MetadataTooLarge: as compact JSON in UTF-8 it has more than `max_bytes`.
    """
    document = _parse_text_of_json(value) if isinstance(value, str) else value
    if not isinstance(document, dict):
        raise BadParameter(f"metadata must be a JSON object, not {quote(document)}")
    # First: what is much deeper cannot be written.
    if _has_deeper(document, MAX_METADATA_DEPTH):
        raise BadParameter(f"metadata has more than {MAX_METADATA_DEPTH} objects and lists inside one another")
    size = len(orjson.dumps(document))
    if size > max_bytes:
        raise MetadataTooLarge(f"metadata has {size} bytes as JSON; {max_bytes} are the most.")
    return document


def _parse_text_of_json(text: str) -> object:
    try:
        return parse_json(text.encode("utf-8", "replace"))
    except orjson.JSONDecodeError as error:
        raise BadParameter(f"metadata must be a JSON object: {error.msg}") from error


def _has_deeper(value: object, depth: int) -> bool:
    """Tell whether lists and objects stand inside one another more than `depth` deep."""
    level: Sequence[object] = [value]
    for _ in range(depth):
        level = [inner for outer in level for inner in _list_inner(outer)]
    return any(isinstance(inner, dict | list) for inner in level)


def _list_inner(value: object) -> Sequence[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _parse_priority(value: object) -> Priority:
    text = value.strip() if isinstance(value, str) else value
    known = ", ".join(Priority)
    if not isinstance(text, str):
        raise BadParameter(f"priority must be one of {known}, not {quote(value)}")
    if text not in tuple(Priority):
        raise BadParameter(f"There is no priority {quote(text)}; known are {known}")
    return Priority(text)


def _choose_deadline(value: object, cancel_after: str | None, limits: OptionLimits) -> float | None:
    if cancel_after is None:
        return None if value is None else _check_deadline("deadline_seconds", value, _read_number(value), limits)
    if value is not None:
        raise BadParameter(f"The deadline is given twice, as deadline_seconds and as {CANCEL_AFTER}; give it once.")
    return _check_deadline(CANCEL_AFTER, cancel_after, parse_duration(cancel_after), limits)


def _check_deadline(name: str, value: object, seconds: float | None, limits: OptionLimits) -> float:
    if seconds is None or not 0 < seconds <= limits.deadline_seconds:
        form = "a time such as 30s, 1m or 2h" if name == CANCEL_AFTER else "a number of seconds"
        raise BadParameter(
            f"{name} must be {form}, above 0 and at most {limits.deadline_seconds:g} s, not {quote(value)}"
        )
    return seconds


def _read_number(value: object) -> float | None:
    if isinstance(value, str):
        text = value.strip()
        return float(text) if _SECONDS.fullmatch(text) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _parse_labels(value: object) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadParameter(f"labels must be a list of names, or names separated by commas, not {quote(value)}")
    labels = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
    if len(labels) > MAX_LABELS or any(len(label) > MAX_LABEL_CHARACTERS for label in labels):
        raise BadParameter(f"labels has at most {MAX_LABELS} names of at most {MAX_LABEL_CHARACTERS} characters")
    return labels


def _parse_webhook(value: object) -> str | None:
    """Check the shape of a webhook alone; which endpoints and URLs there may be is checked when a job is submitted."""
    text = value.strip() if isinstance(value, str) else value
    if not isinstance(text, str) or len(text) > MAX_WEBHOOK_CHARACTERS or not text.isprintable():
        raise BadParameter(
            f"webhook must be an endpoint's id or a URL of at most {MAX_WEBHOOK_CHARACTERS} printable characters"
        )
    return text or None


def _parse_recut(value: object) -> bool:
    if value not in RECUT_KINDS:
        raise BadParameter(f"recut must be one of {', '.join(RECUT_KINDS)}, not {quote(value)}")
    return True


def _parse_format_options(raw: Mapping[str, object]) -> FormatOptions:
    readers: Mapping[str, Callable[[object], object]] = {
        "polygon_tolerance": _read_tolerance,
        "coco_polygons": _read_switch,
    }
    given = {name: read(raw[name]) for name, read in readers.items() if raw.get(name) is not None}
    try:
        return FORMAT_OPTIONS.validate_python(given)
    except ValidationError as error:
        name = str(error.errors(include_url=False)[0]["loc"][0])
        kind = f"a number from 0 to {MAX_TOLERANCE:g}" if name == "polygon_tolerance" else "true or false"
        raise BadParameter(f"{name} must be {kind}, not {quote(raw[name])}") from None


def _read_tolerance(value: object) -> object:
    return _read_number(value) if isinstance(value, str) else value


def _read_switch(value: object) -> object:
    return _SWITCHES.get(value.strip().lower(), value) if isinstance(value, str) else value
