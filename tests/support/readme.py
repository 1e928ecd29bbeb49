"""Generates the tables of settings, parameters and formats in README.md:  python -m tests.support.readme"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from api.settings import ApiSettings
from shared.formats import registry
from shared.jobs.parameters import FIELDS
from shared.settings import Settings
from worker.settings import RendererSettings, StewardSettings, WorkerSettings

README = Path(__file__).resolve().parents[2] / "README.md"
READERS: list[tuple[str, type[Settings]]] = [
    ("all", Settings),
    ("gateway", ApiSettings),
    ("worker", WorkerSettings),
    ("renderer", RendererSettings),
    ("steward", StewardSettings),
]
# In the column of defaults, for a parameter that is None unless the request sets it.
MODEL_DEFAULT = "the model's own"


@dataclass(frozen=True, slots=True)
class Marks:
    """The lines before and after a generated table."""

    start: str
    end: str


SETTINGS = Marks("<!-- settings: made by python -m tests.support.readme -->\n", "<!-- end of settings -->\n")
FORMATS = Marks("<!-- formats: made by python -m tests.support.readme -->\n", "<!-- end of formats -->\n")
PARAMETERS = Marks("<!-- parameters: made by python -m tests.support.readme -->\n", "<!-- end of parameters -->\n")


def main() -> int:
    """Write the tables into README.md."""
    text = replace_table(README.read_text(), SETTINGS, settings_table())
    text = replace_table(text, PARAMETERS, parameters_table(FIELDS))
    README.write_text(replace_table(text, FORMATS, formats_table()))
    return 0


def settings_table() -> str:
    """Return the table of all settings, each with the processes that read it."""
    return _table(("setting", "read by", "default", "meaning"), _settings_rows())


def formats_table() -> str:
    """Return the table of the output formats."""
    rows = ((f"`{one.name}`", f"`/v1/jobs/{{id}}/{one.file}`", one.description) for one in registry.FORMATS)
    return _table(("format", "address", "content"), rows)


def parameters_table(parameters: Mapping[str, FieldInfo]) -> str:
    """Return the table of these fields of a model: range, default and description of each.

    The range of a number is that of its `ge` and `le`; those of booleans and enums are their values.
    """
    return _table(("parameter", "range", "default", "meaning"), _parameter_rows(parameters))


def read_table(marks: Marks) -> str:
    """Return the text between two marks in README.md."""
    return README.read_text().partition(marks.start)[2].partition(marks.end)[0]


def replace_table(text: str, marks: Marks, table: str) -> str:
    """Return the text with this table between the marks.

    Raises:
        ValueError: a mark is missing.
    """
    before, start, rest = text.partition(marks.start)
    _, end, after = rest.partition(marks.end)
    if not (start and end):
        raise ValueError(f"The text lacks the lines {marks.start.strip()} and {marks.end.strip()}")
    return before + start + table + end + after


def _table(names: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    header, *body = (f"| {' | '.join(cells)} |\n" for cells in (names, *rows))
    return "".join([header, f"|{'---|' * len(names)}\n", *body])


def _settings_rows() -> Iterator[tuple[str, ...]]:
    common = set(Settings.model_fields)
    readers: dict[str, list[str]] = {}
    fields: dict[str, FieldInfo] = {}
    for reader, kind in READERS:
        for name, field in kind.model_fields.items():
            if name in common and kind is not Settings:
                continue
            readers.setdefault(name, []).append(reader)
            fields.setdefault(name, field)
    for name, field in fields.items():
        yield f"`MASKMILL_{name.upper()}`", ", ".join(readers[name]), _setting_default(field), str(field.description)


def _setting_default(field: FieldInfo) -> str:
    default = field.default
    plain = default.get_secret_value() if isinstance(default, SecretStr) else default
    return f"`{plain}`" if str(plain) else ""


def _parameter_rows(parameters: Mapping[str, FieldInfo]) -> Iterator[tuple[str, ...]]:
    for name, field in parameters.items():
        default = field.get_default(call_default_factory=True)
        shown = MODEL_DEFAULT if default is None else _code(default)
        yield f"`{name}`", _parameter_range(field), shown, str(field.description)


def _parameter_range(field: FieldInfo) -> str:
    choices = list(_choices(field.annotation))
    if choices:
        return ", ".join(map(_code, choices))
    bounds = {
        name: bound
        for constraint in field.metadata
        for name in ("ge", "le")
        if (bound := getattr(constraint, name, None)) is not None
    }
    match bounds:
        case {"ge": low, "le": high}:
            return f"{low:g} to {high:g}"
        case {"ge": low}:
            return f"at least {low:g}"
        case {"le": high}:
            return f"at most {high:g}"
    return ""


def _choices(annotation: Any) -> Iterator[Any]:
    """Yield the values of a boolean, of an enum, or of those among the members of a union."""
    if get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from _choices(member)
    elif annotation is bool:
        yield from (True, False)
    elif isinstance(annotation, type) and issubclass(annotation, StrEnum):
        yield from annotation


def _code(value: Any) -> str:
    """Format a value as in a query string."""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    sys.exit(main())
