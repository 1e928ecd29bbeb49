"""The scripts of webhooks: what they have in common, beside what those of jobs have (shared/jobs/script.py).

A target is `tenant/endpoint`, so that no message of one tenant can be one of another.
"""

from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from shared import redis_keys
from shared.jobs.script import Script
from shared.redis_client import RedisClient

Outcome = TypeVar("Outcome", bound=StrEnum)

FOLDER = Path(__file__).parent / "scripts"
_PRELUDE = f"""
local function delivery_key(target, message)
  return stack_key('{redis_keys.WEBHOOK_DELIVERY_PREFIX}' .. target .. '/' .. message)
end
local function pending_key(target) return stack_key('{redis_keys.WEBHOOK_PENDING_PREFIX}' .. target) end
local function recent_key(target) return stack_key('{redis_keys.WEBHOOK_RECENT_PREFIX}' .. target) end
local function health_key(target) return stack_key('{redis_keys.WEBHOOK_HEALTH_PREFIX}' .. target) end
local function get_tenant(target) return string.match(target, '^[^/]*') end
-- Note when the next delivery of a target can be claimed.
local function schedule(target)
  local due = stack_key('{redis_keys.WEBHOOK_DUE}')
  local first = redis.call('ZRANGE', pending_key(target), 0, 0, 'WITHSCORES')
  if not first[1] then return redis.call('ZREM', due, target) end
  local blocked_until = tonumber(redis.call('HGET', health_key(target), 'blocked_until') or 0)
  redis.call('ZADD', due, math.max(tonumber(first[2]), blocked_until), target)
end
-- Keep a delivery that is over; one that is not listed only for a moment, in which its job may end once more.
local function expire_delivery(target, message, seconds)
  local is_listed = redis.call('ZSCORE', recent_key(target), message)
  redis.call('EXPIRE', delivery_key(target, message), is_listed and seconds or math.min(seconds, 600))
end
"""


def load_script(client: RedisClient, name: str, outcomes: type[Outcome]) -> Script[Outcome]:
    """Return a script of this folder."""
    return Script(client, name, outcomes, folder=FOLDER, prelude=_PRELUDE)
