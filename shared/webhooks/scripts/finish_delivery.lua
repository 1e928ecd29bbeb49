#!lua flags=allow-oom
-- Record the end of an attempt of a delivery, and what it says of the target: after breaker_failures failures in a row
-- the target is blocked, each time for twice as long.
-- Keys:    running
-- In:      target, message, token, state: of the delivery from now on, status or nil, error or nil,
--          delay_seconds: until the next attempt, if the state is pending; keep_seconds: how long one that is over is kept,
--          is_failure: whether the target has failed; block_seconds: for how long it asks to be left alone,
--          breaker_failures, breaker_seconds, max_breaker_seconds
-- Out:     recorded, failures of the target in a row
--          | lost (another attempt was claimed) | unknown
-- Events:  none
local delivery, time = delivery_key(arg.target, arg.message), now()
local found = redis.call('HMGET', delivery, 'state', 'token')
if not found[1] then
  redis.call('ZREM', key.running, arg.target .. '/' .. arg.message)
  return {'unknown'}
end
-- What was delivered is delivered, also by an attempt that took too long.
if found[2] ~= arg.token and arg.state ~= 'delivered' then return {'lost'} end
redis.call('ZREM', key.running, arg.target .. '/' .. arg.message)
redis.call('HSET', delivery, 'state', arg.state, 'status', arg.status or '', 'error', arg.error or '', 'token', '')
if arg.state == 'pending' then
  redis.call('ZADD', pending_key(arg.target), time + arg.delay_seconds, arg.message)
else
  redis.call('ZREM', pending_key(arg.target), arg.message)
  expire_delivery(arg.target, arg.message, arg.keep_seconds)
end

local health = health_key(arg.target)
local function note_success()
  local failures = tonumber(redis.call('HGET', health, 'failures') or 0)
  redis.call('DEL', health)
  -- What waits for the target, because it did not answer, waits no longer.  One failure may be of a message alone.
  if failures < 2 then return end
  for _, message in ipairs(redis.call('ZRANGEBYSCORE', pending_key(arg.target), '(' .. format_time(time), '+inf')) do
    redis.call('ZADD', pending_key(arg.target), time, message)
  end
end
local function note_failure()
  local failures = redis.call('HINCRBY', health, 'failures', 1)
  local seconds = arg.block_seconds
  if failures >= arg.breaker_failures then
    local doubled = arg.breaker_seconds * 2 ^ math.min(30, failures - arg.breaker_failures)
    seconds = math.max(seconds, math.min(arg.max_breaker_seconds, doubled))
  end
  redis.call('HSET', health, 'blocked_until', format_time(time + seconds))
  redis.call('EXPIRE', health, arg.keep_seconds)
end
if arg.state == 'delivered' then note_success() elseif arg.is_failure then note_failure() end
schedule(arg.target)
return {'recorded', redis.call('HGET', health, 'failures') or 0}
