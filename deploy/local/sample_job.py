"""The job that a fresh stack runs to show that it works: a photo from the repository, through the front door."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.gateway_client import GatewayClient, GatewayRefused

PHOTO = Path(__file__).with_name("sample") / "photo.jpg"
# Lower than the default, so that there is more to see.
SUBMIT = "/v1/jobs?threshold=0.5"
_FINAL = frozenset({"succeeded", "failed", "canceled", "expired"})
_HEADINGS = ("segment", "score", "share", "box (x, y, width, height)")


@dataclass(frozen=True, slots=True)
class SampleResult:
    """What came of the photo: the result as the API tells it, the overlay image (PNG), and the wall time."""

    job_id: str
    result: dict[str, Any]
    overlay: bytes
    seconds: float


def run_sample(client: GatewayClient, *, deadline_seconds: float = 120.0) -> SampleResult:
    """Submit the photo, wait for its job, and fetch what it made.

    Raises:
        GatewayRefused: something went wrong on the way, or it took too long.
    """
    started = time.monotonic()
    job = client.post(SUBMIT, PHOTO.read_bytes()).json()
    while job["state"] not in _FINAL:
        if time.monotonic() - started > deadline_seconds:
            raise GatewayRefused(f"the sample job {job['id']} is still {job['state']} after {deadline_seconds:.0f} s")
        job = client.get(f"/v1/jobs/{job['id']}?wait=10").json()
    seconds = time.monotonic() - started
    if job["state"] != "succeeded":
        raise GatewayRefused(f"the sample job {job['id']} {job['state']}: {job['error']}")
    result = client.get(f"/v1/jobs/{job['id']}/result").json()
    overlay = client.get(f"/v1/jobs/{job['id']}/overlay.png").body
    return SampleResult(job["id"], result, overlay, seconds)


def table(result: dict[str, Any]) -> str:
    """Lay out the segments of a result, the largest first, in aligned columns."""
    pixels = result["image"]["width"] * result["image"]["height"]
    largest_first = sorted(result["segments"], key=lambda segment: -segment["area"])
    return _aligned([_HEADINGS, *(_row(segment, pixels) for segment in largest_first)])


def curl_lines(url: str, job_id: str, *, token: str = "") -> list[str]:
    """Return three commands to try: submit, poll, and synchronous.  They run as they stand, from any folder."""
    door = f"-H {shlex.quote(f'Authorization: Bearer {token}')} " if token else ""
    photo = f"-H 'Content-Type: image/jpeg' --data-binary {shlex.quote(f'@{PHOTO}')}"
    return [
        f"curl -s {door}{photo} '{url}{SUBMIT}'",
        f"curl -s {door}'{url}/v1/jobs/{job_id}?wait=20'",
        # One line of base64 masks is more than a terminal wants to see.
        f"curl -s {door}{photo} {url}/ | cut -c 1-300",
    ]


def _row(segment: dict[str, Any], pixels: int) -> tuple[str, str, str, str]:
    score = "-" if segment["score"] is None else f"{segment['score']:.2f}"
    box = ", ".join(str(side) for side in segment["bbox"])
    return segment["label"], score, f"{segment['area'] / pixels:.1%}", box


def _aligned(rows: Sequence[tuple[str, str, str, str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        f"  {label:<{widths[0]}}  {score:>{widths[1]}}  {share:>{widths[2]}}  {box}"
        for label, score, share, box in rows
    )
