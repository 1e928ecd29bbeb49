"""Settings of the GPU worker and of the steward."""

from typing import Annotated, Literal

from pydantic import Field

from shared.settings import Settings


class WorkerSettings(Settings):
    """What a worker process is told, beside what it shares with the others."""

    device: str = Field("auto", description="`auto` takes CUDA where there is one; or `cpu`, `cuda:0`, ...")
    model_cache: str = Field("", description="Folder for models fetched from `s3://`; empty means a temporary one.")
    forward: Literal["auto", "exact", "fast"] = Field(
        "auto",
        description="Mask2Former's forward pass: `exact` gives the reference's bits, `fast` the same but for at most a "
        "pixel in a thousand; `auto` is exact on a CPU and fast on a GPU.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Of the fast forward pass; `auto` is `float32`. A shorter type is faster, but measure first what "
        "it does to your model: `python -m tests.bench.agreement`.",
    )
    compile: Literal["off", "on"] = Field(
        "off", description="Compile the fast forward pass before the first job: minutes at start, then faster."
    )
    band_megabytes: Annotated[int, Field(ge=0)] = Field(
        0, description="Memory for post-processing one image; 0 means 256 on a CPU and 2048 on a GPU."
    )
    worker_threads: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Jobs that one worker has in hand at a time: decoding, waiting for the device, storing; 0 means 8 "
        "on a CPU, and on a GPU twice `MASKMILL_MAX_BATCH_IMAGES`.",
    )
    max_batch_images: Annotated[int, Field(gt=0)] = Field(16, description="Most images in one forward pass.")
    max_batch_megapixels: Annotated[float, Field(gt=0)] = Field(
        48.0, description="Most megapixels, counted at the photos' own sizes, in one forward pass."
    )
    max_batch_wait_ms: Annotated[float, Field(ge=0)] = Field(
        10.0, description="How long an idle device waits for another image that is being decoded just now."
    )
    max_decode_megapixels: Annotated[float, Field(gt=0)] = Field(
        128.0, description="Images above this are refused by the worker, whatever the gateway let through."
    )
    storage_retries: Annotated[int, Field(ge=0)] = Field(
        2, description="How often a worker tries a call to the object store again before it gives the job back."
    )
    batch_timeout_seconds: Annotated[float, Field(gt=0)] = Field(
        300.0, description="A batch that takes longer than this means a stuck device: the worker ends itself."
    )
    drain_seconds: Annotated[float, Field(gt=0)] = Field(
        25.0, description="How long running jobs may take to finish after SIGTERM before they are left to others."
    )
    probe_host: str = Field("127.0.0.1", description="Address for a worker's health and metrics.")
    probe_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        0, description="Port for a worker's `/healthz`, `/readyz` and `/metrics`; 0 means none."
    )


class StewardSettings(Settings):
    """How often the steward looks after what."""

    requeue_interval_seconds: Annotated[float, Field(gt=0)] = Field(
        1.0, description="How often the steward looks for lapsed leases and forgotten jobs."
    )
    orphaned_after_seconds: Annotated[float, Field(gt=0)] = Field(
        5.0, description="A queued job in nobody's hands for this long is published again."
    )
    recovery_interval_seconds: Annotated[float, Field(gt=0)] = Field(
        15.0, description="How often the steward compares the bucket's inbox with the job store."
    )
    inbox_grace_seconds: Annotated[float, Field(gt=0)] = Field(
        15.0, description="An input that has had no job for this long belongs to a job that was lost, and is taken up."
    )
    retention_interval_seconds: Annotated[float, Field(gt=0)] = Field(
        600.0, description="How often the steward deletes results that have been kept long enough."
    )
    probe_host: str = Field("127.0.0.1", description="Address for the steward's health and metrics.")
    probe_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        0, description="Port for the steward's `/healthz`, `/readyz` and `/metrics`; 0 means none."
    )
