"""The scripts in Redis of calls of the renderer; render_calls.py says what they are for."""

from typing import Final

# keys: flight, turns, renderer, prefix of the waiting calls of a tenant, messages, waiters.  arguments: id of the
# call, the call, milliseconds until it expires, most calls, tenant, most calls of a tenant, message.
# Returns an outcome and the id of the call that is under way.
# Without a renderer, a call that is under way was lost with it.
# A message that was lost is replaced; one too many does no harm.
ENQUEUE: Final = """#!lua
if redis.call('EXISTS', KEYS[3]) == 0 then return {'absent', ''} end
local under_way = redis.call('GET', KEYS[1])
if under_way then
  local is_first = redis.call('INCR', KEYS[6]) == 1
  redis.call('PEXPIRE', KEYS[6], ARGV[3], is_first and 'NX' or 'GT')
  return {'joined', under_way}
end
local waiting, total = KEYS[4] .. ARGV[5], 0
for _, tenant in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
  total = total + redis.call('LLEN', KEYS[4] .. tenant)
end
if total >= tonumber(ARGV[4]) then return {'full', ''} end
if redis.call('LLEN', waiting) >= tonumber(ARGV[6]) then return {'tenant_full', ''} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
redis.call('SET', KEYS[6], 1, 'PX', ARGV[3])
if redis.call('RPUSH', waiting, ARGV[2]) == 1 then redis.call('RPUSH', KEYS[2], ARGV[5]) end
for _ = redis.call('LLEN', KEYS[5]), total do redis.call('LPUSH', KEYS[5], ARGV[7]) end
return {'enqueued', ARGV[1]}
"""
# keys: flight, waiters.  arguments: id of the call.  Returns 1 if no other request waits for it.
# Without a number, those that did have stopped.
WITHDRAW: Final = """#!lua flags=allow-oom
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if redis.call('DECR', KEYS[2]) > 0 then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
return 1
"""
# keys: turns, prefix of the waiting calls of a tenant, messages.  arguments: message, tenants that have their part.
# Returns an outcome and the call.
# The message that woke the renderer is used up by a call, and put back while only these tenants have any.
TAKE: Final = """#!lua flags=allow-oom
local is_held, has_part = false, {}
for index = 2, #ARGV do has_part[ARGV[index]] = true end
for _, tenant in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  if has_part[tenant] then
    is_held = true
  else
    redis.call('LREM', KEYS[1], 1, tenant)
    local call = redis.call('LPOP', KEYS[2] .. tenant)
    if redis.call('EXISTS', KEYS[2] .. tenant) == 1 then redis.call('RPUSH', KEYS[1], tenant) end
    if call then return {'taken', call} end
  end
end
if not is_held then return {'none', ''} end
redis.call('LPUSH', KEYS[3], ARGV[1])
return {'held', ''}
"""
# keys: turns, prefix of the waiting calls of a tenant.  Returns how many calls wait.
COUNT: Final = """#!lua flags=no-writes
local total = 0
for _, tenant in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  total = total + redis.call('LLEN', KEYS[2] .. tenant)
end
return total
"""
# keys: flight, attempts.  arguments: id of the call, seconds until it counts as lost unless it is renewed, most
# attempts, seconds for which they are remembered, 1 if nothing runs beside it.  Returns an outcome.
START: Final = """#!lua flags=allow-oom
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'unwanted' end
local attempts = tonumber(redis.call('GET', KEYS[2]) or 0)
if attempts >= tonumber(ARGV[3]) then return 'refused' end
if attempts > 0 and ARGV[5] ~= '1' then return 'suspected' end
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('INCR', KEYS[2])
redis.call('EXPIRE', KEYS[2], ARGV[4])
return 'started'
"""
# keys: flight.  arguments: id of the call, seconds until it counts as lost.
RENEW: Final = """#!lua flags=allow-oom
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
"""
# keys: flight, reply, events, attempts, waiters.  arguments: id of the call, reply, seconds for which it is kept, 1 if
# the attempt counts no more.
FINISH: Final = """#!lua flags=allow-oom
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[3])
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1], KEYS[5]) end
if ARGV[4] == '1' then redis.call('DEL', KEYS[4]) end
redis.call('PUBLISH', KEYS[3], ARGV[1])
"""
