"""The members of a JSON body: which there are, where each belongs, and which of two that mean the same counts."""

from collections.abc import Collection, Iterator, Mapping
from typing import Final

from api.quoting import quote
from shared.errors import BadParameter
from shared.jobs.parameters import FIELDS

# Some clients name the image `image`.
MEMBERS: Final = ("inputs", "image", "parameters", "model", "options", "formats")
# Of the older Hugging Face clients; the last three have no effect here.
OPTIONS: Final = ("use_cache", "wait_for_model", "use_gpu", "dont_load_model", "retry_on_error")

Members = Mapping[str, object]


def check_places(document: Members, parameters: Members, options: Members, job_members: Collection[str] = ()) -> None:
    """Refuse names that mean something elsewhere, and would be without effect where they are.

    Args:
        job_members: names that mean something to the route beside MEMBERS.

    Raises:
        BadParameter: there is one.
    """
    for name in (*document, *options):
        if name in FIELDS:
            raise BadParameter(f'`{name}` belongs in `parameters`: send {{"parameters": {{"{name}": ...}}}}.')
    for place, names in (("parameters", parameters), ("options", options)):
        for name in names:
            if name in MEMBERS or name in job_members:
                raise BadParameter(f"`{name}` does not belong in `{place}`; send it beside them.")
    for name in (*document, *parameters):
        if name in OPTIONS:
            raise BadParameter(f'`{name}` belongs in `options`: send {{"options": {{"{name}": ...}}}}.')


def list_unknown(document: Members, options: Members, job_members: Collection[str] = ()) -> Iterator[str]:
    """Yield the names that mean nothing here; those of options as `options.NAME`."""
    yield from (name for name in document if name not in MEMBERS and name not in job_members)
    yield from (f"options.{name}" for name in options if name not in OPTIONS)


def list_common(query: Members, given: Members) -> Iterator[str]:
    """Yield the names of the parameters that both have; null is none."""
    return (name for name, value in given.items() if value is not None and query.get(name) is not None)


def merge(query: Members, given: Members) -> Members:
    """Return the parameters of a query, overridden by the given ones; a null keeps that of the query."""
    return {**query, **{name: value for name, value in given.items() if value is not None or name not in query}}


def check_object(name: str, value: object) -> Members:
    """Return a JSON object; an empty one for null.

    Raises:
        BadParameter: it is something else.
    """
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    raise BadParameter(f"`{name}` must be a JSON object, not {quote(value)}")


def check_model(value: object) -> str | None:
    """Return the id of a model; None for null and for an empty text.

    Raises:
        BadParameter: it is no text.
    """
    if value is None or isinstance(value, str):
        return (value or "").strip() or None
    raise BadParameter(f"`model` must be a string, not {quote(value)}")
