"""Keys of a job's objects in the bucket, below MASKMILL_STORAGE_PREFIX."""

import hashlib

INBOX_PREFIX = "inbox/"
INPUTS_PREFIX = "inputs/"
REQUESTS_PREFIX = "requests/"
DEAD_LETTERS_PREFIX = "dead-letters/"
PURGED_PREFIX = "purged/"
KEPT_PREFIX = "kept/"
RECUTS_PREFIX = "recuts/"
RESULTS_PREFIX = "results/"
UPLOADS_PREFIX = "uploads/"
ERASURES_PREFIX = "erasures/"
DERIVED_FOLDER = "/derived/"
STORE_CHECK_PREFIX = "store-check/"
WEBHOOKS_PREFIX = "webhooks/"
LAYOUT_OBJECT = "layout"
STACK_OBJECT = "stack"


def inbox_key(job_id: str) -> str:
    """Return the key of the input; the request is in the object's metadata, if it fits there."""
    return f"{INBOX_PREFIX}{job_id}"


def request_key(job_id: str) -> str:
    """Return the key of a request that is too large for the metadata of its input."""
    return f"{REQUESTS_PREFIX}{job_id}"


def input_key(job_id: str) -> str:
    """Return the key of an input that is kept after its job has ended."""
    return f"{INPUTS_PREFIX}{job_id}"


def dead_letter_key(job_id: str) -> str:
    """Return the key of the input of a job that was given up, kept as long as the record of its job."""
    return f"{DEAD_LETTERS_PREFIX}{job_id}"


def uploads_prefix(tenant: str) -> str:
    """Return the prefix of the files that a tenant has uploaded for later jobs; its name may not fit into a key."""
    return f"{UPLOADS_PREFIX}{_hash_tenant(tenant)[:32]}/"


def upload_key(tenant: str, upload_id: str) -> str:
    return f"{uploads_prefix(tenant)}{upload_id}"


def purged_key(job_id: str) -> str:
    """Return the key of the empty object that says that a job was purged, until nothing can be written for it."""
    return f"{PURGED_PREFIX}{job_id}"


def kept_prefix(job_id: str) -> str:
    """Return the prefix of the empty object that says for how long a job is kept."""
    return f"{KEPT_PREFIX}{job_id}/"


def kept_key(job_id: str, seconds: int) -> str:
    return f"{kept_prefix(job_id)}{seconds}"


def results_prefix(job_id: str) -> str:
    """Return the prefix of all objects that the attempts of a job wrote."""
    return f"{RESULTS_PREFIX}{job_id}/"


def recuts_prefix(job_id: str) -> str:
    """Return the prefix of the logits that the attempts of a job wrote."""
    return f"{RECUTS_PREFIX}{job_id}/"


def recut_key(job_id: str, attempt_name: str) -> str:
    """Return the key of the logits that an attempt wrote; in a folder of their own, because they are deleted sooner."""
    return f"{RECUTS_PREFIX}{job_id}/{attempt_name}"


def result_key(job_id: str) -> str:
    return f"{RESULTS_PREFIX}{job_id}/result.json"


def derived_prefix(job_id: str, attempt_name: str) -> str:
    """Return the prefix of what was rendered of an attempt's result later."""
    return f"{RESULTS_PREFIX}{job_id}/{attempt_name}{DERIVED_FOLDER}"


def derived_key(job_id: str, attempt_name: str, name: str) -> str:
    """Return the key of a file that was rendered of an attempt's result later, or of the document that describes it."""
    return f"{derived_prefix(job_id, attempt_name)}{name}"


def object_key(job_id: str, attempt_name: str, name: str) -> str:
    """Return the key of a file that one attempt wrote, such as labels.png."""
    return f"{RESULTS_PREFIX}{job_id}/{attempt_name}/{name}"


def webhook_prefix(tenant: str) -> str:
    """Return the prefix of the endpoints of a tenant."""
    return f"{WEBHOOKS_PREFIX}{tenant}/"


def webhook_key(tenant: str, endpoint_id: str) -> str:
    """Return the key of an endpoint with its secrets."""
    return f"{webhook_prefix(tenant)}{endpoint_id}"


def erasure_prefix(tenant: str) -> str:
    """Return the prefix of the objects of a tenant's erasure."""
    return f"{ERASURES_PREFIX}{_hash_tenant(tenant)}/"


def erasure_request_key(tenant: str, requested_ms: int) -> str:
    """Return the key of the request for an erasure, by unix milliseconds."""
    return f"{erasure_prefix(tenant)}{requested_ms:013}"


def erasure_progress_key(tenant: str) -> str:
    return f"{erasure_prefix(tenant)}progress"


def _hash_tenant(tenant: str) -> str:
    return hashlib.sha256(tenant.encode()).hexdigest()
