"""The photo of a job that has ended, for the formats that are drawn over it, decoded within the limits of a worker."""

import threading
from contextlib import ExitStack, suppress
from hashlib import sha256

import structlog
from PIL.Image import Image, Resampling, fromarray

from shared.errors import ImageGone
from shared.jobs.model import JobRequest
from shared.storage.bucket import Bucket, NoSuchObject
from shared.storage.keys import dead_letter_key, inbox_key, input_key
from worker.decoding.decoders import DecodeLimits, Decoders
from worker.decoding.request import ImageRequest
from worker.formats.drawing import MAX_OVERLAY_SIDE
from worker.settings import RendererSettings
from worker.slabs import SlabAllocator, SlabPool

log = structlog.get_logger()
# An overlay's image, 3 bytes a pixel, for each of the calls that run at a time.
_POOL_BYTES = 3 * MAX_OVERLAY_SIDE**2 + 2**20
# The decoders write a model's input first, which is not needed here.
_NO_INPUT = ((1, 1), Resampling.NEAREST)


class Photos:
    """Thread-safe.  The processes that decode are started at the first photo; until then they take no memory."""

    def __init__(self, bucket: Bucket, settings: RendererSettings, *, thread_count: int, stack: ExitStack) -> None:
        self._bucket = bucket
        self._settings = settings
        self._thread_count = thread_count
        self._stack = stack
        self._lock = threading.Lock()
        self._decoders: Decoders | None = None

    def load(self, request: JobRequest) -> Image:
        """Return the photo of a job, upright RGB and of at most MAX_OVERLAY_SIDE.

        Raises:
            ImageGone: it is not kept any more.
            StorageUnavailable, DecodersBusy, SharedMemoryFull: try again.
            ClientError: it cannot be decoded within the limits.
        """
        data = self._fetch(request)
        wanted = ImageRequest(
            max_pixels=int(1e6 * self._settings.max_decode_megapixels),
            max_side=self._settings.max_image_side,
            resize=_NO_INPUT,
            image_side=MAX_OVERLAY_SIDE,
        )
        with self._start().decode(data, wanted) as decoded:
            assert decoded.image is not None
            return fromarray(decoded.image.pixels.copy())

    def _fetch(self, request: JobRequest) -> bytes:
        if not request.input.is_durable:
            raise ImageGone(
                "This is drawn over the image, and that of a synchronous request is not kept once it is answered; "
                "submit it as a job, at /v1/jobs."
            )
        # In this order, because an image is copied to where it is kept before it is deleted from the inbox.
        # A stored recut shows the image of the job of which it is one.
        job_id = request.recut_of or request.id
        for key in (inbox_key(job_id), input_key(job_id), dead_letter_key(job_id)):
            with suppress(NoSuchObject):
                data = self._bucket.get(key)
                if request.image and sha256(data).hexdigest() == request.image.sha256:
                    return data
                log.error("input_overwritten", key=key)
        raise ImageGone(
            "This is drawn over the image, which is not kept any more; submit it again and name this in `formats`."
        )

    def _start(self) -> Decoders:
        with self._lock:
            if self._decoders is None:
                pool = SlabPool.create(_POOL_BYTES * self._thread_count)
                self._stack.callback(pool.close)
                limits = DecodeLimits(
                    max_bytes=int(1e6 * self._settings.max_decode_megabytes),
                    max_seconds=self._settings.max_decode_seconds,
                )
                self._decoders = Decoders(SlabAllocator(pool), limits)
                self._decoders.start()
                self._stack.callback(self._decoders.stop)
            return self._decoders
