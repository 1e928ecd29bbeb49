"""The wire form of a tenant's usage."""

from datetime import date, timedelta
from typing import Self

from pydantic import BaseModel, Field

from api.schemas.query import Query
from shared.errors import BadParameter
from shared.jobs.usage import DayUsage

DEFAULT_DAYS = 30
MAX_DAYS = 100


class UsageQuery(Query):
    since: date | None = Field(
        None,
        alias="from",
        description=f"First day, as 2026-11-28; by default {DEFAULT_DAYS} days are shown, and at most {MAX_DAYS}.",
    )
    until: date | None = Field(None, alias="to", description="Last day; by default today, in UTC.")

    def select(self, today: date) -> tuple[date, date]:
        """Return the first and the last day.

        Raises:
            BadParameter: the first comes after the last.
        """
        last = min(self.until or today, today)
        first = self.since or last - timedelta(days=DEFAULT_DAYS - 1)
        if first > last:
            raise BadParameter(f"`from` must not be later than `to`, or than today, in UTC; it is {first}.")
        return max(first, last - timedelta(days=MAX_DAYS - 1)), last


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
