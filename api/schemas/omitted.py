"""Formats that cannot hold a result, in the views of results and of recuts."""

from collections.abc import Mapping
from typing import Final, Self

from pydantic import BaseModel, Field

from shared.jobs.model import Failure

OMITTED_TEXT: Final = (
    "By name, the formats that were asked for and cannot hold this result, such as polygons of noise, and why; all "
    "others are there."
)


class OmittedView(BaseModel):
    """Why a format cannot hold a result."""

    error: str = Field(description="One sentence for a person.")
    error_type: str = Field(description="A code for a program; a request for the file is answered with this error.")

    @classmethod
    def of(cls, failure: Failure) -> Self:
        return cls(error=failure.message, error_type=failure.code)


def show_omitted(omitted: Mapping[str, Failure]) -> dict[str, OmittedView]:
    return {name: OmittedView.of(failure) for name, failure in omitted.items()}
