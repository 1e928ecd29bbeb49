"""The wire form of a tenant's usage."""

import re
from datetime import date
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, Field

from api.schemas.query import Query
from shared.errors import BadParameter
from shared.jobs.usage import DayUsage

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
DEFAULT_DAYS = 30
MAX_DAYS = 100


def _read_day(value: object) -> object:
    """Return the day that a text names; the library would read numbers as seconds."""
    if isinstance(value, str) and not _DAY.fullmatch(value):
        raise ValueError("should be a day, such as 2026-11-28")
    return value


Day = Annotated[date, BeforeValidator(_read_day)]


class UsageQuery(Query):
    since: Day | None = Field(
        None,
        alias="from",
        description=f"First day, as 2026-11-28; by default {DEFAULT_DAYS} days are shown, and at most {MAX_DAYS}.",
    )
    until: Day | None = Field(None, alias="to", description="Last day; by default today, in UTC.")

    def select(self, today: date) -> tuple[date, date]:
        """Return the first and the last day.

        Raises:
            BadParameter: the first comes after the last.
        """
        last = min(self.until or today, today)
        first = self.since or _go_back(last, DEFAULT_DAYS - 1)
        if first > last:
            raise BadParameter(f"`from` must not be later than `to`, or than today, in UTC; it is {first}.")
        return max(first, _go_back(last, MAX_DAYS - 1)), last


def _go_back(day: date, days: int) -> date:
    """Return the day so many days before one, or the first that there is."""
    return date.fromordinal(max(1, day.toordinal() - days))


class DayUsageView(BaseModel):
    date: str
    submitted: int = Field(
        description="Jobs that were created, also by synchronous requests; an answer from the cache is none."
    )
    succeeded: int
    failed: int
    canceled: int
    expired: int
    pixels: int = Field(description="Of the images of the submitted jobs.")
    device_ms: int = Field(description="Milliseconds of the device for the jobs that ended on this day.")

    @classmethod
    def of(cls, usage: DayUsage) -> Self:
        counts = {state.value: count for state, count in usage.ended.items()}
        return cls(
            date=usage.day.isoformat(),
            submitted=usage.submitted,
            pixels=usage.pixels,
            device_ms=usage.device_ms,
            **counts,
        )


class UsageView(BaseModel):
    """The usage of the tenant by day in UTC, and its quotas."""

    days: list[DayUsageView]
    queued_bytes: int = Field(description="Of the images of jobs that wait or run.")
    max_queued_bytes: int
    max_pixels_per_day: int
    max_requests_per_second: float = Field(description="To one gateway process.")
