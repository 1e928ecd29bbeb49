"""The body of a call that keeps a job."""

from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, WithJsonSchema, model_validator

from shared.rfc3339 import EXAMPLE, parse_timestamp
from shared.settings import MAX_TTL_SECONDS


def _check_timestamp(text: str) -> str:
    parse_timestamp(text)
    return text


# A text, of which a number does not take the place.
_SCHEMA = {"type": "string", "format": "date-time"}
TimestampText = Annotated[str, Strict(), AfterValidator(_check_timestamp), WithJsonSchema(_SCHEMA)]


class KeepBody(BaseModel):
    """How long a job is kept: one of the two members."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"seconds": 2592000}, {"until": EXAMPLE}]}
    )

    seconds: Annotated[int, Strict(), Field(gt=0, le=MAX_TTL_SECONDS)] | None = Field(None, description="From now on.")
    until: TimestampText | None = Field(None, description="A time of RFC 3339.")

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.seconds is None) == (self.until is None):
            raise ValueError("should have one of seconds and until")
        return self

    def count_seconds(self, now: float) -> float:
        """Return how long from now, which is in unix seconds."""
        return parse_timestamp(self.until) - now if self.until is not None else float(self.seconds or 0)
