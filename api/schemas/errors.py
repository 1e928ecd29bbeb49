"""The body of every error response."""

from pydantic import BaseModel, Field


class ErrorView(BaseModel):
    """Every error of every route."""

    error: str = Field(description="One sentence for a person.")
    error_type: str = Field(description="A code for a program; codes never change.", examples=["queue_full"])
    request_id: str = Field(description="The same as in the header x-request-id, and in the log.")
