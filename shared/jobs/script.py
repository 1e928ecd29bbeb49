"""Lua scripts in Redis with named arguments and named keys.

Each script gets one packed argument, a JSON object, so that adding a field renumbers nothing.  It returns a list whose
first element is its outcome.
"""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, TypeVar

import orjson

from shared import redis_keys
from shared.redis_client import RedisClient

_FOLDER = Path(__file__).parent / "scripts"
# `arg`: the named arguments (absent ones are nil); `key`: the named keys; `payload`: bytes, or nil.
_PRELUDE = f"""
local arg = cjson.decode(ARGV[1])
local payload = ARGV[2]
local key = {{}}
for index, name in ipairs(arg.key_names) do key[name] = KEYS[index] end
local function job_key(id) return '{redis_keys.JOB_PREFIX}' .. id end
local function tenant_jobs_key(tenant) return '{redis_keys.TENANT_JOBS_PREFIX}' .. tenant end
local function queued_key(queue) return '{redis_keys.QUEUED_PREFIX}' .. queue end
local function delayed_key(queue) return '{redis_keys.DELAYED_PREFIX}' .. queue end
local function publish_event(id) redis.call('PUBLISH', '{redis_keys.EVENTS}', id) end
local function now()
  local time = redis.call('TIME')
  return time[1] + time[2] / 1000000
end
-- A message without a job wakes a worker for nothing, so a queue keeps no more messages than it has jobs.
local function trim_messages(queue)
  local excess = redis.call('LLEN', queue) - redis.call('ZCARD', queued_key(queue))
  if excess > 0 then redis.call('RPOP', queue, excess) end
end
"""


Outcome = TypeVar("Outcome", bound=StrEnum)


class Script(Generic[Outcome]):
    """A script of the folder `scripts`, loaded into Redis at its first call; it returns one of `outcomes`."""

    def __init__(self, client: RedisClient, name: str, outcomes: type[Outcome]) -> None:
        self._outcomes = outcomes
        self._run = client.register_script(_PRELUDE + (_FOLDER / f"{name}.lua").read_text())

    def __call__(self, keys: Mapping[str, str], *, payload: bytes = b"", **arguments: Any) -> tuple[Outcome, list[Any]]:
        """Run the script; return its outcome and the values after it.

        Args:
            keys: Redis keys by the names that the script uses.
            payload: bytes that JSON cannot hold.
            arguments: of JSON's types; None is left out.
        """
        given = {name: value for name, value in arguments.items() if value is not None}
        packed = orjson.dumps({"key_names": list(keys), **given})
        outcome, *values = self._run(keys=list(keys.values()), args=[packed, *([payload] if payload else [])])
        return self._outcomes(outcome), values
