"""Settings of the worker, the renderer and the steward.  `python -m worker.settings` checks them and starts nothing."""

from typing import Annotated, Literal

from pydantic import Field

from shared.command_line import check_arguments
from shared.setting_types import (
    Bytes,
    Count,
    CountOrNone,
    Device,
    Endpoint,
    Host,
    Milliseconds,
    Port,
    Seconds,
    WritableFolder,
)
from shared.settings import Settings, read_settings

MAX_PROCESSES = 1024
MAX_MEGABYTES = 2**30
# Of one image; a thousand times what any camera makes.
MAX_MEGAPIXELS = 1_000_000
MAX_RETRIES = 100
Megapixels = Annotated[float, Field(gt=0, le=MAX_MEGAPIXELS, allow_inf_nan=False)]


class ProbeSettings(Settings):
    """Where a process tells its health and its metrics."""

    probe_host: Host = Field("127.0.0.1", description="Address for the process's health and metrics.")
    probe_port: Port = Field(
        0, description="Port for the process's `/healthz`, `/readyz` and `/metrics`; 0 means none."
    )


class DecodingSettings(ProbeSettings):
    """Of the processes that decode images: the hosts of a worker, and the renderer."""

    max_decode_megapixels: Megapixels = Field(
        128.0, description="The worker refuses larger images, whatever the gateway accepted."
    )
    max_decode_megabytes: Annotated[float, Field(ge=64, le=MAX_MEGABYTES, allow_inf_nan=False)] = Field(
        1600.0,
        description="Memory for all images that one host process, or a renderer, decodes at a time. An image that "
        "takes more than 7/8 of it is refused; JPEG, PNG and TIFF take 4 to 10 bytes a pixel, WebP 12, AVIF and HEIC "
        "up to 16, in tiles 5.",
    )
    max_decode_seconds: Seconds = Field(
        5.0,
        description="CPU time for decoding one image, in addition to a quarter of a second a megapixel; an image that "
        "takes more is refused.",
    )
    storage_retries: Annotated[int, Field(ge=0, le=MAX_RETRIES)] = Field(
        2, description="How often a failed call to the object store is repeated before the job is released."
    )
    drain_seconds: Seconds = Field(
        25.0, description="How long running jobs may take to finish after SIGTERM; other workers run the rest."
    )


class WorkerSettings(DecodingSettings):
    """Read once by worker/main.py."""

    device: Device = Field("auto", description="`auto` takes CUDA if available; or `cpu`, `cuda:0`, ...")
    model_cache: WritableFolder = Field(
        "",
        description="Folder for models fetched from `s3://`, empty means a temporary one; and for what `auto` of "
        "`MASKMILL_FORWARD` measured, empty means `~/.cache/maskmill`.",
    )
    forward: Literal["auto", "exact", "fast"] = Field(
        "auto",
        description="Mask2Former's forward pass: `exact` gives the reference's bits on a CPU, `fast` the same but for "
        "at most a pixel in a thousand; `auto` is fast if the two agree on a few photos when a model is first loaded.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Of the fast forward pass; `auto` is `float32`. A shorter type is faster, but measure first how it "
        "changes the results of your model: `python -m tests.bench.agreement`.",
    )
    compile: Literal["off", "on"] = Field(
        "off", description="Compile the fast forward pass before the first job: minutes at start, then faster."
    )
    band_megabytes: Annotated[int, Field(ge=0, le=MAX_MEGABYTES)] = Field(
        0, description="Memory for post-processing one image; 0 means 256 on a CPU and 2048 on a GPU."
    )
    host_processes: Annotated[int, Field(ge=0, le=MAX_PROCESSES)] = Field(
        0,
        description="Processes of one worker that take jobs, render and store; 0 means 1 on a CPU, and on a GPU half "
        "of the cores, at most 8.",
    )
    worker_threads: CountOrNone = Field(
        0,
        description="Jobs that one worker runs at a time: decoding, waiting for the device, storing; 0 means 8 "
        "on a CPU, and on a GPU twice `MASKMILL_MAX_BATCH_IMAGES`. A quarter more, at least 2, for interactive jobs.",
    )
    max_batch_images: Count = Field(16, description="Most images in one forward pass; `exact` on a CPU takes one.")
    max_batch_megapixels: Megapixels = Field(
        48.0, description="Most megapixels, counted at the images' own sizes, in one forward pass."
    )
    max_batch_wait_ms: Milliseconds = Field(
        10.0, description="How long an idle device waits for another image that is being decoded."
    )
    max_interactive_wait_ms: Annotated[Milliseconds, Field(gt=0)] = Field(
        250.0,
        description="How long a batch that holds jobs, and not synchronous calls only, may keep the device busy, by "
        "what batches have taken so far; an image that takes longer is alone in its batch.",
    )
    max_url_bytes: Bytes = Field(
        32 * 2**20, description="Largest image that is fetched from a URL, with `MASKMILL_URL_INPUTS`."
    )
    url_timeout_seconds: Seconds = Field(20.0, description="How long the fetching of a URL may take in all.")
    max_url_redirects: CountOrNone = Field(3, description="How often a URL may redirect.")
    max_input_megapixels: Megapixels = Field(
        4.0,
        description="Most megapixels that a model gets of one image, if its processor keeps proportions or does not "
        "resize; an image that would have more is refused.",
    )
    keep_result_seconds: Seconds = Field(
        120.0,
        description="How long a worker keeps a result that it cannot store because a store does not answer; then the "
        "job is given back, to be computed again. It repeats as long a claim that Redis does not answer.",
    )
    recut_floor: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = Field(
        0.05,
        description="Lowest `threshold` of a recut: the logits of queries with a lower score are not kept.",
    )
    max_recut_megabytes: Annotated[float, Field(gt=0, le=1024, allow_inf_nan=False)] = Field(
        8.0,
        description="Most that is kept of one image for a recut, uncompressed; of an image with more, the queries of "
        "the lowest scores are left out.",
    )
    batch_timeout_seconds: Seconds = Field(
        300.0, description="A batch that takes longer means that the device hangs: the worker ends itself."
    )


class RendererSettings(DecodingSettings):
    """Read once by worker/renderer/app.py."""

    renderer_threads: CountOrNone = Field(
        0,
        description="Calls that one renderer runs at a time; those of one tenant are at most all but one, and at least "
        "one. 0 means one for each core, at most 4, and one more.",
    )
    render_seconds: Seconds = Field(
        120.0,
        description="Longest time that a call of the renderer may take: then it is answered with an error, and the "
        "renderer's process ends, to be started again.",
    )
    recut_threads: CountOrNone = Field(
        0,
        description="Cores that a recut uses at a time; 0 means all, at most 4. A renderer runs one recut at a time, "
        "and one preview beside it.",
    )
    max_derived_files: Count = Field(
        64, description="Files of one job that are rendered after its end: formats, each with its options."
    )
    max_render_reply_bytes: Bytes = Field(
        32 * 1024 * 1024, description="Largest reply of a renderer; Redis keeps each for 20 seconds."
    )


class StewardSettings(ProbeSettings):
    """Read once by worker/steward/app.py."""

    requeue_interval_seconds: Seconds = Field(
        1.0, description="How often the steward requeues stalled and released jobs and republishes orphaned ones."
    )
    orphaned_after_seconds: Seconds = Field(
        5.0, description="A queued job whose message was lost is orphaned after this time, and gets a new message."
    )
    recovery_interval_seconds: Seconds = Field(
        15.0, description="How often the steward compares the bucket's inbox with the job store."
    )
    inbox_grace_seconds: Seconds = Field(
        15.0, description="An input without a job is older than this if Redis lost the job; the steward recovers it."
    )
    retention_interval_seconds: Seconds = Field(600.0, description="How often the steward deletes expired results.")
    purge_interval_seconds: Seconds = Field(
        5.0, description="How often the steward looks for purged jobs, and deletes what their workers stored meanwhile."
    )
    webhook_threads: Count = Field(
        32, description="Messages of webhooks that one steward sends at a time; one tenant gets half of them."
    )
    webhook_timeout_seconds: Annotated[Seconds, Field(le=300)] = Field(
        15.0, description="How long a receiver of webhooks may take to answer."
    )
    webhook_retry_seconds: Seconds = Field(
        24 * 3600.0, description="How long a message of a webhook is repeated until a receiver takes it."
    )
    public_url: Endpoint = Field(
        "",
        description="URL at which clients reach the gateway, as in `https://masks.example/api`: links in webhooks "
        "begin with it. Empty means that they are paths.",
    )


if __name__ == "__main__":
    check_arguments("worker.settings", "Check the settings of workers, renderers and stewards, and start nothing.")
    for kind in (WorkerSettings, RendererSettings, StewardSettings):
        read_settings(kind)
