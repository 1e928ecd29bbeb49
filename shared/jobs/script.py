"""Lua scripts in Redis with named arguments and named keys.

Each script gets one packed argument, a JSON object, so that adding a field renumbers nothing.  It returns a list whose
first element is its outcome.  Its first line has its flags: a script with `allow-oom` runs also while Redis is out of
memory, so that running jobs end; create.lua does not.
"""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, TypeVar

import orjson

from shared import redis_keys
from shared.jobs.model import Priority
from shared.redis_client import RedisClient

MINUTE_SECONDS = 60
DAY_SECONDS = 86400
# For as long the usage of a day can be seen.
USAGE_SECONDS = 100 * DAY_SECONDS
_FOLDER = Path(__file__).parent / "scripts"
_PRIORITIES = ", ".join(f"'{one}'" for one in Priority)
# Of the events of one job: those of a dozen attempts with their stages.
MAX_LOG_BYTES = 4096
# `arg`: the named arguments (absent ones are nil); `key`: the named keys; `payload`: bytes, or nil.
_PRELUDE = f"""
local arg = cjson.decode(ARGV[1])
local payload = ARGV[2]
local key = {{}}
for index, name in ipairs(arg.key_names) do key[name] = KEYS[index] end
-- Keys and channels that a script builds itself begin with the prefix of the stack, as those that it is given do.
local function stack_key(name) return arg.prefix .. name end
local function job_key(id) return stack_key('{redis_keys.JOB_PREFIX}' .. id) end
local function tenant_jobs_key(tenant) return stack_key('{redis_keys.TENANT_JOBS_PREFIX}' .. tenant) end
local function queued_key(queue) return stack_key('{redis_keys.QUEUED_PREFIX}' .. queue) end
-- Suspects: jobs that have stalled.  They are claimed only to be run alone.
local function suspects_key(queue) return stack_key('{redis_keys.SUSPECTS_PREFIX}' .. queue) end
local function delayed_key(queue) return stack_key('{redis_keys.DELAYED_PREFIX}' .. queue) end
local client_id_prefix = stack_key('{redis_keys.CLIENT_ID_PREFIX}')
-- List: the messages of a queue.
local function messages_key(queue) return stack_key(queue) end
local function publish_event(id) redis.call('PUBLISH', stack_key('{redis_keys.EVENTS}'), id) end
local function publish_canceled(id) redis.call('PUBLISH', stack_key('{redis_keys.CANCELED}'), id) end
local function now()
  local time = redis.call('TIME')
  return time[1] + time[2] / 1000000
end
-- Add an event to the log of a job, a field of its record: lines of JSON, [id, event, data].  The id of an event is its
-- time in milliseconds, or one more than that of the event before.  The oldest lines make room for it.
-- `lines`: the log so far, or nothing.  `data`: JSON, or nil.
local function add_event(lines, event, data)
  lines = lines or ''
  local last = lines ~= '' and string.match('\\n' .. lines, '.*\\n%[(%d+),')
  local number = math.max(math.floor(now() * 1000), (tonumber(last or 0) or 0) + 1)
  local line = string.format('[%.0f,"%s",%s]\\n', number, event, data or '{{}}')
  while #lines > 0 and #lines + #line > {MAX_LOG_BYTES} do lines = string.match(lines, '\\n(.*)$') or '' end
  return lines .. line
end
-- Append an event to the log of a job, and tell those who watch it, if there are any.
local function append_event(id, event, data)
  local record = redis.call('HMGET', job_key(id), 'events', 'watched')
  redis.call('HSET', job_key(id), 'events', add_event(record[1], event, data))
  if record[2] then publish_event(id) end
end
-- For an answer, in which a number would lose its fraction.
local function format_time(seconds) return string.format('%.6f', seconds) end
local function count_claimable(queue)
  return redis.call('ZCARD', queued_key(queue)) + redis.call('ZCARD', suspects_key(queue))
end
-- A message without a job wakes a worker for nothing, so a queue keeps no more messages than it has jobs.
local function trim_messages(queue)
  local excess = redis.call('LLEN', messages_key(queue)) - count_claimable(queue)
  if excess > 0 then redis.call('RPOP', messages_key(queue), excess) end
end
-- Count the pixels of the jobs of a queue that can be claimed.  What is wrong in the sum, because of records that were
-- deleted by hand or written by an earlier version, lasts until the queue is empty.
local function add_queued_pixels(queue, pixels)
  local sums = stack_key('{redis_keys.QUEUED_PIXELS}')
  local sum = redis.call('HINCRBY', sums, queue, pixels)
  if sum <= 0 or count_claimable(queue) == 0 then redis.call('HDEL', sums, queue) end
end
-- Return a job to its place in its queue, and enqueue its message.  `reason`: JSON for the event.
local function requeue(id, message, reason)
  local job = redis.call('HMGET', job_key(id), 'queue', 'place', 'stalls', 'pixels')
  redis.call('HSET', job_key(id), 'state', 'queued')
  redis.call('ZADD', job[3] == '0' and queued_key(job[1]) or suspects_key(job[1]), job[2], id)
  add_queued_pixels(job[1], job[4] or 0)
  redis.call('LPUSH', messages_key(job[1]), message)
  append_event(id, 'requeued', reason)
end
-- Where a queued job stands: the number of jobs that come before it, of its queue and of those of its model with a
-- higher priority, plus one; and the pixels of its own image and of them, by the mean of each queue.  Nil while it
-- cannot be claimed.
local function find_place(id)
  local job = redis.call('HMGET', job_key(id), 'queue', 'stalls', 'pixels')
  local queue, own, sums = job[1], tonumber(job[3] or 0), stack_key('{redis_keys.QUEUED_PIXELS}')
  local set, other_set = queued_key(queue), suspects_key(queue)
  if job[2] ~= '0' then set, other_set = other_set, set end
  local before = redis.call('ZRANK', set, id)
  if not before then return nil end
  before = before + redis.call('ZCOUNT', other_set, '-inf', '(' .. redis.call('ZSCORE', set, id))
  local others = math.max(0, (redis.call('HGET', sums, queue) or 0) - own)
  local pixels = own + others * before / math.max(1, count_claimable(queue) - 1)
  local model, priority = string.match(queue, '^(.*)%.([^.]*)$')
  for _, higher in ipairs({{{_PRIORITIES}}}) do
    if higher == priority then break end
    local other = model .. '.' .. higher
    before = before + count_claimable(other)
    pixels = pixels + (redis.call('HGET', sums, other) or 0)
  end
  return {{before + 1, string.format('%.0f', pixels)}}
end
-- Remove a queued job from its queue; before its record is deleted.
local function remove_queued(id, queue)
  if redis.call('ZREM', queued_key(queue), id) + redis.call('ZREM', suspects_key(queue), id) > 0 then
    trim_messages(queue)
    add_queued_pixels(queue, -(redis.call('HGET', job_key(id), 'pixels') or 0))
  end
  redis.call('ZREM', delayed_key(queue), id)
end
-- End the lease of a job; if it is a suspect, its worker may run another one.
local function end_lease(id)
  redis.call('ZREM', stack_key('{redis_keys.LEASES}'), id)
  local job = redis.call('HMGET', job_key(id), 'worker', 'stalls')
  if job[1] and job[2] ~= '0' and redis.call('HGET', stack_key('{redis_keys.ISOLATED}'), job[1]) == id then
    redis.call('HDEL', stack_key('{redis_keys.ISOLATED}'), job[1])
  end
end
-- Tell which bound of a queue is reached: `full`, `tenant_full` or nil.
local function find_full_queue(queue, unfinished)
  if count_claimable(queue) + redis.call('ZCARD', delayed_key(queue)) >= arg.max_queued then return 'full' end
  local count = redis.call('ZCARD', unfinished)
  if count < arg.max_queued_per_tenant then return nil end
  -- A worker of an earlier version finishes jobs without removing them here; the oldest ones are removed now.
  for _, id in ipairs(redis.call('ZRANGE', unfinished, 0, 9)) do
    local state = redis.call('HGET', job_key(id), 'state')
    if state ~= 'queued' and state ~= 'running' then count = count - redis.call('ZREM', unfinished, id) end
  end
  return count >= arg.max_queued_per_tenant and 'tenant_full' or nil
end
-- The accounts of the payloads: entries `bytes:tenant:job id` by the time at which the payload expires, and the sums by
-- tenant.  The sum of all has a name that no tenant can have.
local function add_payload_bytes(entry, sign)
  local bytes, tenant = string.match(entry, '^(%d+):([^:]*):')
  for _, name in ipairs({{tenant, '*'}}) do
    if redis.call('HINCRBY', stack_key('{redis_keys.PAYLOAD_BYTES}'), name, sign * bytes) <= 0 then
      redis.call('HDEL', stack_key('{redis_keys.PAYLOAD_BYTES}'), name)
    end
  end
end
local function keep_payload(entry, expires_at)
  if redis.call('ZADD', stack_key('{redis_keys.PAYLOADS}'), expires_at, entry) == 1 then add_payload_bytes(entry, 1) end
end
local function release_payload(entry)
  if redis.call('ZREM', stack_key('{redis_keys.PAYLOADS}'), entry) == 1 then add_payload_bytes(entry, -1) end
end
-- The bytes of the inputs of a tenant's jobs that are not final.
local function add_queued_bytes(tenant, bytes)
  if redis.call('HINCRBY', stack_key('{redis_keys.QUEUED_BYTES}'), tenant, bytes) <= 0 then
    redis.call('HDEL', stack_key('{redis_keys.QUEUED_BYTES}'), tenant)
  end
end
-- The usage of a tenant, by day.
local function usage_key(tenant)
  return stack_key('{redis_keys.USAGE_PREFIX}' .. tenant .. ':' .. math.floor(now() / {DAY_SECONDS}))
end
local function count_usage(tenant, counts)
  local usage = usage_key(tenant)
  for name, count in pairs(counts) do redis.call('HINCRBY', usage, name, count) end
  redis.call('EXPIRE', usage, {USAGE_SECONDS})
end
-- The counts of a model's jobs that end in this minute.
local function minute_key(model)
  return stack_key('{redis_keys.MINUTES_PREFIX}' .. model .. ':' .. math.floor(now() / {MINUTE_SECONDS}))
end
-- Tell which quota of a tenant another job would exceed: `quota_bytes`, `quota_pixels` or nil.
local function find_exceeded_quota()
  local queued = tonumber(redis.call('HGET', stack_key('{redis_keys.QUEUED_BYTES}'), arg.tenant) or 0)
  if queued + arg.bytes > arg.quota_bytes then return 'quota_bytes' end
  local used = tonumber(redis.call('HGET', usage_key(arg.tenant), 'pixels') or 0)
  if used + arg.pixels > arg.quota_pixels then return 'quota_pixels' end
end
-- Remove a job from the accounts of its tenant.  `request`: of its record, JSON.
local function release_accounts(id, queue, request)
  local job = cjson.decode(request)
  local unfinished = stack_key('{redis_keys.UNFINISHED_PREFIX}' .. queue .. ':' .. job.tenant)
  -- An image that no gateway has read has counted nothing.
  local bytes = job.image ~= cjson.null and job.image.bytes or 0
  if redis.call('ZREM', unfinished, id) == 1 then add_queued_bytes(job.tenant, -bytes) end
  redis.call('ZREM', stack_key('{redis_keys.DEADLINES}'), id)
  if job.input.kind == 'payload' then release_payload(bytes .. ':' .. job.tenant .. ':' .. id) end
end
-- Put a job that has ended into the outbox of webhooks.  `tenant`: whose endpoints may get all jobs, or nil;
-- is_named: whether the job names an endpoint or a URL.  Until the steward has listed the tenants with endpoints, each
-- tenant may have some.
local function enqueue_webhook(id, tenant, is_named)
  local tenants = stack_key('{redis_keys.WEBHOOK_TENANTS}')
  local may_have = tenant and (redis.call('HEXISTS', tenants, tenant) == 1 or redis.call('HEXISTS', tenants, '*') == 0)
  if is_named or may_have then redis.call('ZADD', stack_key('{redis_keys.WEBHOOK_OUTBOX}'), 'NX', now(), id) end
end
-- Delete what was planned for the webhooks of a job.
local function remove_webhooks(id)
  redis.call('ZREM', stack_key('{redis_keys.WEBHOOK_OUTBOX}'), id)
  local planned = redis.call('HGET', job_key(id), 'deliveries')
  for _, delivery in ipairs(planned and cjson.decode(planned) or {{}}) do
    local target, message = string.match(delivery, '^(.*)/([^/]*)$')
    redis.call('DEL', stack_key('{redis_keys.WEBHOOK_DELIVERY_PREFIX}' .. delivery))
    redis.call('ZREM', stack_key('{redis_keys.WEBHOOK_PENDING_PREFIX}' .. target), message)
    redis.call('ZREM', stack_key('{redis_keys.WEBHOOK_RECENT_PREFIX}' .. target), message)
    redis.call('ZREM', stack_key('{redis_keys.WEBHOOK_RUNNING}'), delivery)
  end
end
local function count_payload_bytes(entry)
  local tenant = string.match(entry, '^%d+:([^:]*):')
  local sums = redis.call('HMGET', stack_key('{redis_keys.PAYLOAD_BYTES}'), '*', tenant)
  return tonumber(sums[1] or 0), tonumber(sums[2] or 0)
end
"""


Outcome = TypeVar("Outcome", bound=StrEnum)


class Script(Generic[Outcome]):
    """A script of a folder `scripts`, loaded into Redis at its first call; it returns one of `outcomes`."""

    def __init__(
        self,
        client: RedisClient,
        name: str,
        outcomes: type[Outcome],
        *,
        folder: Path = _FOLDER,
        prelude: str = "",
    ) -> None:
        """Take what the scripts of another folder have in common, beside what all scripts have."""
        self._outcomes = outcomes
        self._prefix = client.key_prefix
        flags, _, text = (folder / f"{name}.lua").read_text().partition("\n")
        self._run = client.register_script(f"{flags}{_PRELUDE}{prelude}{text}")

    def __call__(self, keys: Mapping[str, str], *, payload: bytes = b"", **arguments: Any) -> tuple[Outcome, list[Any]]:
        """Run the script; return its outcome and the values after it.

        Args:
            keys: Redis keys by the names that the script uses, without the prefix of the stack.
            payload: bytes that JSON cannot hold.
            arguments: of JSON's types; None is left out.
        """
        given = {name: value for name, value in arguments.items() if value is not None}
        packed = orjson.dumps({"key_names": list(keys), "prefix": self._prefix, **given})
        outcome, *values = self._run(keys=list(keys.values()), args=[packed, *([payload] if payload else [])])
        return self._outcomes(outcome), values
