"""Generates the tables in README.md and in deploy/docs/reference:  python -m tests.support.readme"""

import sys
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from api.settings import ApiSettings
from shared.formats import registry
from shared.jobs.format_options import FormatOptions
from shared.jobs.parameters import FIELDS
from shared.settings import Settings
from tests.support.reference import ERRORS, FILES, METRICS, errors_table, files_table, metrics_table, options_table
from tests.support.tables import ROOT, Marks, build_table, write_table
from worker.settings import RendererSettings, StewardSettings, WorkerSettings

README = ROOT / "README.md"
READERS: list[tuple[str, type[Settings]]] = [
    ("all", Settings),
    ("gateway", ApiSettings),
    ("worker", WorkerSettings),
    ("renderer", RendererSettings),
    ("steward", StewardSettings),
]
# In the column of defaults, for a parameter that is None unless the request sets it.
MODEL_DEFAULT = "the model's own"


SETTINGS = Marks.of("settings", "deploy/docs/reference/settings.md")
FORMATS = Marks.of("formats", "README.md")
PARAMETERS = Marks.of("parameters", "README.md")
LISTED_PARAMETERS = Marks.of("parameters", "deploy/docs/reference/formats.md")
OPTIONS = Marks.of("job options", "README.md")
LISTED_OPTIONS = Marks.of("job options", "deploy/docs/reference/jobs.md")
FORMAT_OPTIONS = Marks.of("options", "deploy/docs/reference/formats.md")


def main() -> int:
    """Write the tables into their files."""
    for marks, build in TABLES.items():
        write_table(marks, build())
    return 0


def settings_table() -> str:
    """Return the table of all settings, each with the processes that read it."""
    return build_table(("setting", "read by", "default", "meaning"), _settings_rows())


def formats_table() -> str:
    """Return the table of the output formats."""
    rows = ((f"`{one.name}`", f"`/v1/jobs/{{id}}/{one.file}`", one.description) for one in registry.FORMATS)
    return build_table(("format", "address", "content"), rows)


def parameters_table(parameters: Mapping[str, FieldInfo]) -> str:
    """Return the table of these fields of a model: range, default and description of each.

    The range of a number is that of its `ge` and `le`; those of booleans and enums are their values.
    """
    return build_table(("parameter", "range", "default", "meaning"), _parameter_rows(parameters))


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


TABLES: Mapping[Marks, Callable[[], str]] = {
    SETTINGS: settings_table,
    PARAMETERS: lambda: parameters_table(FIELDS),
    FORMATS: formats_table,
    OPTIONS: options_table,
    LISTED_OPTIONS: options_table,
    LISTED_PARAMETERS: lambda: parameters_table(FIELDS),
    FORMAT_OPTIONS: lambda: parameters_table(FormatOptions.__pydantic_fields__),  # type: ignore[attr-defined]
    FILES: files_table,
    ERRORS: errors_table,
    METRICS: metrics_table,
}


if __name__ == "__main__":
    sys.exit(main())
