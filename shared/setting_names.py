"""The names of the settings of all processes; no process knows the classes of all the others.

A test compares them with the classes.
"""

import difflib
import os
from collections.abc import Iterable, Mapping
from typing import Final

import structlog

log = structlog.get_logger()

PREFIX: Final = "MASKMILL_"
SECRETS_DIR: Final = f"{PREFIX}SECRETS_DIR"
# Of difflib, in [0, 1]: two letters exchanged in a name of nine are 0.89, one that is missing from six is 0.91.
MIN_LIKENESS: Final = 0.85

# Former names of settings; a process does not start if one is set, because ignoring it would hide the mistake.
RENAMED: Final[Mapping[str, str]] = {
    "MASKMILL_BATCH_IMAGES": "MASKMILL_MAX_BATCH_IMAGES",
    "MASKMILL_BATCH_MEGAPIXELS": "MASKMILL_MAX_BATCH_MEGAPIXELS",
    "MASKMILL_BATCH_WAIT_MS": "MASKMILL_MAX_BATCH_WAIT_MS",
    "MASKMILL_DECODE_MEGAPIXELS": "MASKMILL_MAX_DECODE_MEGAPIXELS",
    "MASKMILL_STUCK_AFTER_SECONDS": "MASKMILL_BATCH_TIMEOUT_SECONDS",
    "MASKMILL_SWEEP_SECONDS": "MASKMILL_REQUEUE_INTERVAL_SECONDS",
    "MASKMILL_FORGOTTEN_AFTER_SECONDS": "MASKMILL_ORPHANED_AFTER_SECONDS",
    "MASKMILL_RECOVER_SECONDS": "MASKMILL_RECOVERY_INTERVAL_SECONDS",
    "MASKMILL_EXPIRE_SECONDS": "MASKMILL_RETENTION_INTERVAL_SECONDS",
}
# Without the prefix.
NAMES: Final = frozenset(
    {
        "ALLOWED_HOSTS",
        "AUTH",
        "BAND_MEGABYTES",
        "BATCH_TIMEOUT_SECONDS",
        "BIND",
        "COLD_START_SECONDS",
        "COMPILE",
        "CORS_ORIGINS",
        "DEFAULT_FORMATS",
        "DEVICE",
        "DRAIN_SECONDS",
        "DTYPE",
        "EVENT_HEARTBEAT_SECONDS",
        "FORWARD",
        "GRACEFUL_TIMEOUT_SECONDS",
        "HEADER_TIMEOUT_SECONDS",
        "HOST_PROCESSES",
        "INBOX_GRACE_SECONDS",
        "INPUT_BUCKETS",
        "INPUT_TTL_SECONDS",
        "KEEP_ALIVE_SECONDS",
        "KEEP_RESULT_SECONDS",
        "LEASE_SECONDS",
        "LINGER_SECONDS",
        "LOG_FORMAT",
        "LOG_LEVEL",
        "MAX_ATTEMPTS",
        "MAX_BATCH_IMAGES",
        "MAX_BATCH_MEGAPIXELS",
        "MAX_BATCH_WAIT_MS",
        "MAX_BUFFERED_BYTES",
        "MAX_CONNECTIONS",
        "MAX_CONNECTIONS_PER_PEER",
        "MAX_DEADLINE_SECONDS",
        "MAX_DECODE_MEGABYTES",
        "MAX_DECODE_MEGAPIXELS",
        "MAX_DECODE_SECONDS",
        "MAX_EVENT_STREAMS",
        "MAX_EVENT_STREAMS_PER_TENANT",
        "MAX_IMAGES_PER_REQUEST",
        "MAX_DERIVED_FILES",
        "MAX_IMAGE_PIXELS",
        "MAX_IMAGE_SIDE",
        "MAX_INPUT_MEGAPIXELS",
        "MAX_INTERACTIVE_WAIT_MS",
        "MAX_METADATA_BYTES",
        "MAX_PAYLOAD_BYTES",
        "MAX_PAYLOAD_BYTES_PER_TENANT",
        "MAX_PENDING_WEBHOOKS",
        "MAX_QUEUED",
        "MAX_QUEUED_PER_TENANT",
        "MAX_RECUT_MEGABYTES",
        "MAX_REDIS_MEMORY_SHARE",
        "MAX_RESULT_TTL_SECONDS",
        "MAX_RENDER_CALLS",
        "MAX_RENDER_CALLS_PER_TENANT",
        "MAX_RENDER_REPLY_BYTES",
        "MAX_RETRIES",
        "MAX_SYNC_WAIT_SECONDS",
        "MAX_SYNC_WAIT_SECONDS_PER_TENANT",
        "MAX_UPLOAD_BYTES",
        "MAX_URL_BYTES",
        "MAX_URL_REDIRECTS",
        "MAX_WAITING",
        "MAX_WAITING_PER_TENANT",
        "MAX_WAITING_SECONDS",
        "MAX_WEBHOOKS",
        "METRICS_BIND",
        "MIN_TRANSFER_BYTES_PER_SECOND",
        "MODEL",
        "MODEL_ALIASES",
        "MODEL_CACHE",
        "ORPHANED_AFTER_SECONDS",
        "OUTGOING_ALLOWED",
        "PROBE_HOST",
        "PROBE_PORT",
        "PROCESSES",
        "PUBLIC_URL",
        "PUBLISHED",
        "PURGE_INTERVAL_SECONDS",
        "READY_TIMEOUT_SECONDS",
        "RECOVERY_INTERVAL_SECONDS",
        "RECUT_FLOOR",
        "RECUT_THREADS",
        "RECUT_TTL_SECONDS",
        "REDIS_CA_FILE",
        "REDIS_CERT_FILE",
        "REDIS_KEY_FILE",
        "REDIS_PASSWORD",
        "REDIS_PREFIX",
        "REDIS_TIMEOUT_SECONDS",
        "REDIS_URL",
        "RENDERER_THREADS",
        "RENDER_SECONDS",
        "RENDER_WAIT_SECONDS",
        "REQUEUE_INTERVAL_SECONDS",
        "RESULT_TTL_SECONDS",
        "RETENTION_INTERVAL_SECONDS",
        "SIGNED_URL_SECONDS",
        "STORAGE_ACCESS_KEY",
        "STORAGE_BUCKET",
        "STORAGE_ENDPOINT",
        "STORAGE_PREFIX",
        "STORAGE_PROXY",
        "STORAGE_PUBLIC_ENDPOINT",
        "STORAGE_REGION",
        "STORAGE_RETRIES",
        "STORAGE_SECRET_KEY",
        "STORAGE_TIMEOUT_SECONDS",
        "SYNC_DEADLINE_SECONDS",
        "THREADS",
        "TENANT_PIXELS_PER_DAY",
        "TENANT_QUEUED_BYTES",
        "TENANT_UPLOADS",
        "TENANT_UPLOAD_BYTES",
        "TENANT_REQUESTS_PER_SECOND",
        "TOKENS",
        "TOKENS_FILE",
        "TRANSFER_TIMEOUT_SECONDS",
        "TRUSTED_PROXIES",
        "UPLOAD_TTL_SECONDS",
        "URL_INPUTS",
        "URL_TIMEOUT_SECONDS",
        "WEBHOOK_HTTP",
        "WEBHOOK_RETRY_SECONDS",
        "WEBHOOK_THREADS",
        "WEBHOOK_TIMEOUT_SECONDS",
        "WEBHOOK_URLS",
        "WORKER_THREADS",
    }
)


def find_wrong_names(names: Iterable[str]) -> Iterable[str]:
    """Yield a sentence for each name that was a setting's, or that looks like a slip in one.

    A name of any process is right, so that all can read one file of variables.  One that is like none is not refused:
    orchestrators set some for a service called maskmill, and a newer version knows more of them.
    """
    for name in sorted(name.upper() for name in names if name.upper().startswith(PREFIX)):
        if name in RENAMED:
            yield f"{name} is now {RENAMED[name]}"
        elif likely := find_likely_name(name):
            yield f"{name}: there is no such setting; write {likely}"


def find_likely_name(name: str) -> str | None:
    """Return the setting of which a name is a slip, or None if it is a setting's, or like none."""
    if name.removeprefix(PREFIX) in NAMES or name == SECRETS_DIR:
        return None
    found = difflib.get_close_matches(name.removeprefix(PREFIX), NAMES, n=1, cutoff=MIN_LIKENESS)
    return f"{PREFIX}{found[0]}" if found else None


def log_unknown(environ: Mapping[str, str] = os.environ) -> None:
    """Log the variables that look like settings and are none of any process.  For composition roots only."""
    known = {SECRETS_DIR, *(f"{PREFIX}{name}" for name in NAMES)}
    unknown = [name for name in environ if name.startswith(PREFIX) and name not in known and not _is_link(name)]
    if unknown:
        log.warning("unknown_settings", names=sorted(unknown))


def _is_link(name: str) -> bool:
    """Tell whether Kubernetes sets a variable for a service, or Docker for a linked container."""
    return "_SERVICE_" in name or "_PORT_" in name or name.endswith("_PORT")
