"""The header Prefer (RFC 7240), as far as it says how a synchronous request is to be answered.  Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preference:
    """Whoever has one gets a job; `wait_seconds` is how long to hold the answer for its end.

    applied: what to say in Preference-Applied.
    """

    wait_seconds: float
    applied: str


def read(header: str | None) -> Preference | None:
    """Return what is preferred, or None: what is not understood is ignored, as the RFC has it.

    >>> read("respond-async, wait=10")
    Preference(wait_seconds=10.0, applied='respond-async, wait=10')
    >>> read("handling=lenient") is None
    True
    """
    options = [wish.split(";")[0].strip().lower() for wish in (header or "").split(",")]
    wait = next((wish.partition("=")[2].strip(' "') for wish in options if wish.startswith("wait=")), "")
    seconds = int(wait) if wait.isascii() and wait.isdecimal() and len(wait) < 5 else None
    applied = ["respond-async"] * ("respond-async" in options) + [f"wait={seconds}"] * (seconds is not None)
    return Preference(float(seconds or 0), ", ".join(applied)) if applied else None
