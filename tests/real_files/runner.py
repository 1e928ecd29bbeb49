"""Sends real files to a service on both of its paths, and says what is wrong with what comes back."""

import base64
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.conformance.wire import Response, post, send
from tests.real_files.files import Refused, Same

Classes = NDArray[np.uint32]
_PARAMETERS = "threshold=0.9"
_WAIT_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a path made of a file.

    status: 200, or that of the error.
    message, error_type: of the error.
    classes: (H, W), a number for the class of each pixel, 0 for none; None if there was an error.
    """

    status: int
    message: str = ""
    error_type: str = ""
    classes: Classes | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """Where files are sent.  `url` has host and port."""

    url: str

    def segment(self, data: bytes) -> Outcome:
        """Send a file on the synchronous path."""
        response = post(self.url, f"/?{_PARAMETERS}", data)
        return _read_error(response) or Outcome(200, classes=_draw_masks(response.json()))

    def submit(self, data: bytes) -> Callable[[], Outcome]:
        """Submit a file as a job; return a function that waits for its end."""
        response = post(self.url, f"/v1/jobs?{_PARAMETERS}&formats=labels", data)
        refused = _read_error(response)
        if refused is not None:
            return lambda: refused
        return lambda: self._wait(response.json()["id"])

    def _wait(self, job_id: str) -> Outcome:
        job = f"/v1/jobs/{job_id}"
        state = send(self.url, "GET", f"{job}?wait={_WAIT_SECONDS}").json()["state"]
        result = send(self.url, "GET", f"{job}/result")
        refused = _read_error(result)
        assert (state == "failed") == (refused is not None), (state, result.body)
        if refused is not None:
            return refused
        labels = send(self.url, "GET", f"{job}/labels.png").body
        return Outcome(200, classes=_draw_labels(labels, result.json()["segments"]))


@dataclass(frozen=True, slots=True)
class Twins:
    """The label maps of twins; a twin of several files is segmented once."""

    service: Service
    known: dict[bytes, Outcome] = field(default_factory=dict)

    def segment(self, twin: Image.Image) -> Classes:
        buffer = BytesIO()
        twin.save(buffer, "PNG")
        data = buffer.getvalue()
        if data not in self.known:
            self.known[data] = self.service.segment(data)
        classes = self.known[data].classes
        assert twin.mode == "RGB" and classes is not None, (twin, self.known[data])
        return classes


def find_fault(expected: Same | Refused, outcome: Outcome, twins: Twins) -> str | None:
    """Return what is wrong with an outcome; None if it is as it must be."""
    match expected:
        case Refused(words, status):
            if outcome.status != status:
                return f"status {outcome.status} instead of {status}: {outcome.message}"
            return None if words.lower() in outcome.message.lower() else f"no word of {words!r}: {outcome.message}"
        case Same(twin, min_share):
            if outcome.classes is None:
                return f"status {outcome.status}: {outcome.message}"
            return _find_difference(outcome.classes, twins.segment(twin()), min_share)


def find_difference_of_paths(synchronous: Outcome, job: Outcome) -> str | None:
    """Return how the two paths differ in a refusal; None if they do not."""
    first, second = ((one.status, one.error_type, one.message) for one in (synchronous, job))
    return None if first == second else f"refused as {first} and, as a job, {second}"


def compare(classes: Classes, others: Classes) -> float:
    """Return the share of pixels of one class in both label maps; 0 if they differ in size."""
    return float((classes == others).mean()) if classes.shape == others.shape else 0.0


def _find_difference(classes: Classes, wanted: Classes, min_share: float) -> str | None:
    if classes.shape != wanted.shape:
        return f"a label map of {classes.shape} instead of {wanted.shape}"
    share = compare(classes, wanted)
    return None if share >= min_share else f"{share:.4f} of the pixels are those of the twin, not {min_share}"


def _read_error(response: Response) -> Outcome | None:
    if response.status < 400:
        return None
    error = response.json()
    return Outcome(response.status, error["error"], error["error_type"])


def _draw_masks(array: list[dict[str, Any]]) -> Classes:
    """Return the classes of an array of masks; without any mask there is no size either, (0, 0)."""
    masks = [np.asarray(Image.open(BytesIO(base64.b64decode(one["mask"])))) for one in array]
    classes = np.zeros(masks[0].shape if masks else (0, 0), np.uint32)
    for mask, one in zip(masks, array, strict=True):
        classes[mask > 0] = _number(one["label"])
    return classes


def _draw_labels(png: bytes, segments: list[dict[str, Any]]) -> Classes:
    """Return the classes of a label map and its segments."""
    labels = np.asarray(Image.open(BytesIO(png)))
    numbers = np.zeros(int(labels.max(initial=0)) + 1, np.uint32)
    for one in segments:
        numbers[one["id"]] = _number(one["label"])
    return numbers[labels]


def _number(label: str) -> int:
    return zlib.crc32(label.encode())
