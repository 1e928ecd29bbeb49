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
from shared.redis_client import RedisClient

MINUTE_SECONDS = 60
DAY_SECONDS = 86400
# For as long the usage of a day can be seen.
USAGE_SECONDS = 100 * DAY_SECONDS
_FOLDER = Path(__file__).parent / "scripts"
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
-- List: the messages of a queue.
local function messages_key(queue) return stack_key(queue) end
local function publish_event(id) redis.call('PUBLISH', stack_key('{redis_keys.EVENTS}'), id) end
local function publish_canceled(id) redis.call('PUBLISH', stack_key('{redis_keys.CANCELED}'), id) end
local function now()
  local time = redis.call('TIME')
  return time[1] + time[2] / 1000000
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
-- Return a job to its place in its queue, and enqueue its message.
local function requeue(id, message)
  local job = redis.call('HMGET', job_key(id), 'queue', 'place', 'stalls')
  redis.call('HSET', job_key(id), 'state', 'queued')
  redis.call('ZADD', job[3] == '0' and queued_key(job[1]) or suspects_key(job[1]), job[2], id)
  redis.call('LPUSH', messages_key(job[1]), message)
end
-- Remove a queued job from its queue.
local function remove_queued(id, queue)
  if redis.call('ZREM', queued_key(queue), id) + redis.call('ZREM', suspects_key(queue), id) > 0 then
    trim_messages(queue)
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
  if job.input.kind == 'payload' then release_payload(bytes .. ':' .. job.tenant .. ':' .. id) end
end
local function count_payload_bytes(entry)
  local tenant = string.match(entry, '^%d+:([^:]*):')
  local sums = redis.call('HMGET', stack_key('{redis_keys.PAYLOAD_BYTES}'), '*', tenant)
  return tonumber(sums[1] or 0), tonumber(sums[2] or 0)
end
"""


Outcome = TypeVar("Outcome", bound=StrEnum)


class Script(Generic[Outcome]):
    """A script of the folder `scripts`, loaded into Redis at its first call; it returns one of `outcomes`."""

    def __init__(self, client: RedisClient, name: str, outcomes: type[Outcome]) -> None:
        self._outcomes = outcomes
        self._prefix = client.key_prefix
        flags, _, text = (_FOLDER / f"{name}.lua").read_text().partition("\n")
        self._run = client.register_script(f"{flags}{_PRELUDE}{text}")

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
