"""The request that the launcher sends to a new stack to show that it works: an image of this repository, over HTTP.

It is a synchronous one, which runs before the jobs that an earlier run has left in the queue.
"""

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deploy.local.gateway_client import GatewayClient, GatewayRefused

SAMPLE_IMAGE = Path(__file__).with_name("sample") / "photo.jpg"
# Below the default threshold, so that more segments are shown.
SUBMIT_PATH = "/v1/jobs?threshold=0.5"
_SYNC_PATH = "/?threshold=0.5&formats=labels,overlay,masks"
# The result of an earlier run would show nothing.
_HEADERS = {"x-use-cache": "false", "x-wait-for-model": "true"}
_FINAL_STATES = frozenset({"succeeded", "failed", "canceled", "expired"})
_HEADINGS = ("segment", "score", "share", "box (x, y, width, height)")


@dataclass(frozen=True, slots=True)
class SampleResult:
    """The outcome of the sample job: `result` as the API returns it, the overlay as PNG, and the wall time."""

    job_id: str
    result: dict[str, Any]
    overlay: bytes
    seconds: float


def run_sample(client: GatewayClient, *, deadline_seconds: float = 120.0) -> SampleResult:
    """Send the sample image, wait until its job is stored, and fetch result and overlay.

    Raises:
        GatewayRefused: a request failed, the job did not succeed, or the deadline passed.
    """
    started = time.monotonic()
    client = replace(client, timeout_seconds=deadline_seconds)
    reply = client.request("POST", _SYNC_PATH, SAMPLE_IMAGE.read_bytes(), headers=_HEADERS).raise_for_status()
    job_id = reply.headers["x-maskmill-job-id"]
    seconds = time.monotonic() - started
    job: dict[str, Any] = {"state": "running"}
    while job["state"] not in _FINAL_STATES:
        if time.monotonic() - started > deadline_seconds:
            raise GatewayRefused(f"the sample job {job_id} is still {job['state']} after {deadline_seconds:.0f} s")
        # A caller has the masks before they are stored.
        job = client.get(f"/v1/jobs/{job_id}?wait=10").json()
    if job["state"] != "succeeded":
        raise GatewayRefused(f"the sample job {job_id} {job['state']}: {job['error']}")
    result = client.get(f"/v1/jobs/{job_id}/result").json()
    overlay = client.get(f"/v1/jobs/{job_id}/overlay.png").body
    return SampleResult(job_id, result, overlay, seconds)


def format_segments(result: dict[str, Any]) -> str:
    """Format the segments of a result as a table in aligned columns, the largest segment first."""
    pixels = result["image"]["width"] * result["image"]["height"]
    largest_first = sorted(result["segments"], key=lambda segment: -segment["area"])
    return _align([_HEADINGS, *(_format_row(segment, pixels) for segment in largest_first)])


def curl_commands(url: str, job_id: str, *, requires_token: bool = False, names_proxy: bool = False) -> list[str]:
    """Return three shell commands: submit, poll, and a synchronous request.  They run unchanged in any folder.

    A token is taken from the variable TOKEN, because terminals and their logs are read by others.

    Args:
        names_proxy: whether the environment names a proxy, which curl would ask for loopback, too.
    """
    curl = "curl -s --noproxy '*'" if names_proxy else "curl -s"
    authorization = '-H "Authorization: Bearer $TOKEN" ' if requires_token else ""
    upload = f"-H 'Content-Type: image/jpeg' --data-binary {shlex.quote(f'@{SAMPLE_IMAGE}')}"
    return [
        f"{curl} {authorization}{upload} '{url}{SUBMIT_PATH}'",
        f"{curl} {authorization}'{url}/v1/jobs/{job_id}?wait=20'",
        # The response is one long line of base64 masks.
        f"{curl} {authorization}{upload} {url}/ | cut -c 1-300",
    ]


def _format_row(segment: dict[str, Any], pixels: int) -> tuple[str, str, str, str]:
    score = "-" if segment["score"] is None else f"{segment['score']:.2f}"
    box = ", ".join(str(side) for side in segment["bbox"])
    return segment["label"], score, f"{segment['area'] / pixels:.1%}", box


def _align(rows: Sequence[tuple[str, str, str, str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        f"  {label:<{widths[0]}}  {score:>{widths[1]}}  {share:>{widths[2]}}  {box}"
        for label, score, share, box in rows
    )
