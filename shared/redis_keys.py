"""Every Redis key of the service.  shared/README.md gives the content and the lifetime of each.

The client adds MASKMILL_REDIS_PREFIX (shared/redis_prefix.py).
"""

# Which layout of keys and objects this version reads and writes; see shared/layout.py.
LAYOUT = "mm:layout"
# String: id of the stack that the data belong to, and the location of its bucket; see shared/stack.py.
STACK = "mm:stack"
# String: empty; written to see whether Redis takes writes, see shared/store_health.py.
STORE_CHECK = "mm:store_check"

# Channel: the id of a job is published when it is finished, discarded or purged, or its reply is stored.
EVENTS = "mm:events"
# Channel: the id of a running job is published when it is canceled or purged, for its worker.
CANCELED = "mm:canceled"

# Sorted set: running jobs by the time at which their lease expires.
LEASES = "mm:leases"
# Sorted set: jobs with a deadline that are not final, by it; those of synchronous requests are left to their callers.
DEADLINES = "mm:deadlines"
# Hash: the suspect that each worker runs; a worker runs one at a time.
ISOLATED = "mm:isolated"
# Sets: tenants that have a list of jobs; queues that ever had a job.
TENANTS = "mm:tenants"
QUEUES = "mm:queue_names"

# Hash: for each queue the virtual time, the start of the job that was claimed last; see shared/jobs/fairness.py.
VIRTUAL_TIMES = "mm:virtual_times"

# Sorted set: payloads of inputs, `bytes:tenant:job id`, by the time at which they expire; hash: their bytes by tenant.
PAYLOADS = "mm:payloads"
PAYLOAD_BYTES = "mm:payload_bytes"
# Hash: bytes of the inputs of the jobs of each tenant that are not final.
QUEUED_BYTES = "mm:queued_bytes"
# Hash: number of jobs that the workers of each model have completed.
COMPLETED = "mm:completed"
# Hash: for each queue the pixels of the images of its jobs that can be claimed.
QUEUED_PIXELS = "mm:queued_pixels"

# Prefixes: the scripts append the id of a job to the first, a tenant to the second, and a queue's name to the others.
JOB_PREFIX = "mm:job:"
TENANT_JOBS_PREFIX = "mm:jobs:"
QUEUED_PREFIX = "mm:queued:"
SUSPECTS_PREFIX = "mm:suspects:"
DELAYED_PREFIX = "mm:delayed:"
# The scripts append a model, and the number of a minute since 1970.
MINUTES_PREFIX = "mm:minutes:"
# As before, and then the name of a tenant.
UNFINISHED_PREFIX = "mm:unfinished:"
# The scripts append a tenant, and the number of a day since 1970, in UTC.
USAGE_PREFIX = "mm:usage:"
CLIENT_ID_PREFIX = "mm:client_id:"

# Sorted set: jobs that have ended and whose webhooks are not planned yet, by the time of their end.
WEBHOOK_OUTBOX = "mm:webhook_outbox"
# Hash: a random word for each tenant that has, or had, endpoints, changed with each of their changes; and `*`, once all
# tenants of the bucket are in it.
WEBHOOK_TENANTS = "mm:webhook_tenants"
# Sorted sets: targets with pending deliveries by the time of the first one; running ones by the end of their lease.
# A target is `tenant/endpoint`, a delivery `tenant/endpoint/message`.
WEBHOOK_DUE = "mm:webhook_due"
WEBHOOK_RUNNING = "mm:webhook_running"
# Prefixes: the scripts append a delivery to the first, a target to the others.
WEBHOOK_DELIVERY_PREFIX = "mm:webhook_delivery:"
WEBHOOK_PENDING_PREFIX = "mm:webhook_pending:"
WEBHOOK_RECENT_PREFIX = "mm:webhook_recent:"
WEBHOOK_HEALTH_PREFIX = "mm:webhook_health:"

# Sorted sets: workers by last heartbeat, models likewise; hash: seconds that each model took to load.
WORKERS = "mm:workers"
MODELS = "mm:models"
LOAD_SECONDS = "mm:load_seconds"

# Strings, by the id of a job: empty; a caller had it kept of late, or the steward has begun to delete its objects.
KEPT_MARK_PREFIX = "mm:kept:"
RETENTION_ENDED_PREFIX = "mm:retention_ended:"

# String: empty; a renderer takes calls.
RENDERER = "mm:renderer"
# List: tenants whose calls of the renderer wait, in the order of their turns.  Prefix: the scripts append a tenant.
RENDER_TURNS = "mm:render_turns"
RENDER_WAITING_PREFIX = "mm:render_waiting:"

# Hash: when each duty of the steward was completed last, unix seconds.
DUTY_RUNS = "mm:duty_runs"


def job(job_id: str) -> str:
    """Hash: the record of a job."""
    return f"{JOB_PREFIX}{job_id}"


def queued_jobs(queue: str) -> str:
    """Sorted set: ids of the jobs that can be claimed from a queue, by their start in virtual time."""
    return f"{QUEUED_PREFIX}{queue}"


def suspected_jobs(queue: str) -> str:
    """Sorted set: ids of the suspects that can be claimed from a queue, by their start in virtual time."""
    return f"{SUSPECTS_PREFIX}{queue}"


def delayed_jobs(queue: str) -> str:
    """Sorted set: ids of the jobs of a queue that cannot be claimed yet, by the time at which they can."""
    return f"{DELAYED_PREFIX}{queue}"


def unfinished_jobs(queue: str, tenant: str) -> str:
    """Sorted set: ids of a tenant's jobs of a queue that are not final, by their end in virtual time."""
    return f"{UNFINISHED_PREFIX}{queue}:{tenant}"


def usage(tenant: str, day: int) -> str:
    """Hash: the usage of a tenant on a day, counted from 1970 in UTC."""
    return f"{USAGE_PREFIX}{tenant}:{day}"


def ended_jobs(model: str, minute: int) -> str:
    """Hash: counts of the jobs of a model that ended in a minute, counted from 1970."""
    return f"{MINUTES_PREFIX}{model}:{minute}"


def model_facts(model: str) -> str:
    """String: classes and subtasks of a model, JSON."""
    return f"mm:model_facts:{model}"


def passed_over(model: str) -> str:
    """Hash: for each queue of a model how many jobs of its other queues were claimed since the last one of its own."""
    return f"mm:passed_over:{model}"


def ended_work(model: str) -> str:
    """List: the last jobs of a model that ran, the last one first, by which the end of further ones is estimated."""
    return f"mm:ended_work:{model}"


def claim(token: str) -> str:
    """String: id of the job that a claim got, in case that its answer is lost."""
    return f"mm:claim:{token}"


def tenant_jobs(tenant: str) -> str:
    """Sorted set (by id, which sorts by time): the jobs in a tenant's list."""
    return f"{TENANT_JOBS_PREFIX}{tenant}"


def idempotency(digest: str) -> str:
    """Hash: job and fingerprint of an idempotency key, by the SHA-256 of tenant and key."""
    return f"mm:idempotency:{digest}"


def client_id(tenant: str, client_id: str) -> str:
    """Hash: job and fingerprint of a caller's own id of a job."""
    return f"{CLIENT_ID_PREFIX}{tenant}:{client_id}"


def dedup(key: str) -> str:
    """String: id of the job that computes, or has computed, the result of a deduplication key."""
    return f"mm:dedup:{key}"


def input_payload(job_id: str) -> str:
    """String: image of a job whose input is a payload."""
    return f"mm:input:{job_id}"


def reply_payload(job_id: str) -> str:
    """String: the Hugging Face array of a job whose caller waits."""
    return f"mm:reply:{job_id}"


def uploads(tenant: str) -> str:
    """Sorted set: ids of the uploads of a tenant by the time at which they expire."""
    return f"mm:uploads:{tenant}"


def upload_bytes(tenant: str) -> str:
    """Hash: most bytes of each upload of a tenant, and under `*` their sum."""
    return f"mm:upload_bytes:{tenant}"


def render_flight(digest: str) -> str:
    """String: id of the call of the renderer that is under way, by the SHA-256 of what it asks for."""
    return f"mm:render_flight:{digest}"


def render_waiters(digest: str) -> str:
    """String: how many requests wait for a call of the renderer, by the same digest."""
    return f"mm:render_waiters:{digest}"


def render_attempts(digest: str) -> str:
    """String: how often a call of the renderer was started and has not ended, by the same digest."""
    return f"mm:render_attempts:{digest}"


def render_reply(call_id: str) -> str:
    """String: what the renderer replied to a call."""
    return f"mm:render_reply:{call_id}"


def purge_mark(job_id: str) -> str:
    """String: the job was purged; objects that are stored for it later are not shown."""
    return f"mm:purged:{job_id}"


def duty_lease(duty: str) -> str:
    """String: a random word of the steward that runs a duty now."""
    return f"mm:duty:{duty}"


def webhook_edit(tenant: str) -> str:
    """String: a random word of the process that changes an endpoint of a tenant now."""
    return f"mm:webhook_edit:{tenant}"


def worker(worker_id: str) -> str:
    """String: the last heartbeat of a worker."""
    return f"mm:worker:{worker_id}"
