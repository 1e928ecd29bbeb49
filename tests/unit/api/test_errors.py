"""Every error has a code and a status, and every answer to one has the shape that clients can read."""

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from api.errors import STATUS, http_status, reject_invalid
from shared import errors
from shared.errors import ClientError, MaskmillError, Unavailable, UnknownParameter, WorkerFault, build_error


def leaves(kind: type[MaskmillError]) -> list[type[MaskmillError]]:
    below = [leaf for child in kind.__subclasses__() for leaf in leaves(child)]
    return below or [kind]


def public() -> list[type[MaskmillError]]:
    return [kind for kind in leaves(MaskmillError) if kind.__module__ == errors.__name__]


def test_every_error_has_a_code_of_its_own() -> None:
    kinds = public()

    assert all("code" in vars(kind) for kind in kinds)
    assert len({kind.code for kind in kinds}) == len(kinds)


def test_each_family_has_its_statuses() -> None:
    assert all(400 <= http_status(kind) < 500 for kind in leaves(ClientError))
    assert all(http_status(kind) in {429, 503, 504} for kind in leaves(Unavailable))
    assert all(http_status(kind) == 500 for kind in leaves(WorkerFault))


def test_the_table_names_each_error_that_differs_from_its_family_and_no_other() -> None:
    for kind, status in STATUS.items():
        inherited = [STATUS[base] for base in kind.__mro__[1:] if base in STATUS]

        assert not inherited or status != inherited[0], f"{kind.__name__} need not be in the table"


def test_the_tree_in_the_docstring_is_complete() -> None:
    drawn = {line.split()[1] for line in (errors.__doc__ or "").splitlines() if line.strip().startswith("- ")}

    assert drawn == {kind.__name__ for kind in public()}


@pytest.mark.parametrize("kind", public())
def test_a_recorded_error_comes_back_as_what_it_was(kind: type[MaskmillError]) -> None:
    found = build_error(kind.code, "so it was")

    assert (type(found), str(found)) == (kind, "so it was")


def test_a_code_of_a_newer_version_becomes_an_internal_error() -> None:
    assert type(build_error("not_yet_invented", "new")) is MaskmillError


class Query(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: int = 1


def test_a_misspelt_parameter_is_named() -> None:
    with pytest.raises(ValidationError) as found:
        Query.model_validate({"limt": "5"})

    with pytest.raises(UnknownParameter, match="limt"):
        reject_invalid(found.value)
