"""The wire form of the answer to a request with several images."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Self

from pydantic import BaseModel, Field

from api.errors import http_status
from api.schemas.jobs import JobView
from shared.errors import MaskmillError
from shared.jobs.model import Job


class ItemView(BaseModel):
    """What became of one image of a request."""

    index: int = Field(description="Its place among the images of the form, from 0.")
    name: str = Field(description="Of its file or, without one, of its field; at most 100 characters.")
    status: int = Field(description="What the image alone would have been answered with: 202, or that of the error.")
    job: JobView | None
    error: str | None
    error_type: str | None

    @classmethod
    def of(cls, index: int, name: str, outcome: Job | MaskmillError) -> Self:
        if isinstance(outcome, Job):
            job = JobView.of(outcome)
            return cls(index=index, name=name, status=HTTPStatus.ACCEPTED, job=job, error=None, error_type=None)
        status = http_status(type(outcome))
        return cls(index=index, name=name, status=status, job=None, error=str(outcome), error_type=outcome.code)


class BundleView(BaseModel):
    """The images of a request, in the order of the form: 202 if each has a job, else 207."""

    jobs: list[ItemView]

    @classmethod
    def of(cls, parts: Iterable[tuple[str, Job | MaskmillError]]) -> Self:
        """Return the answer for images with these names, each with its job or its error."""
        return cls(jobs=[ItemView.of(index, name, outcome) for index, (name, outcome) in enumerate(parts)])
