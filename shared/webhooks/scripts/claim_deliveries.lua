#!lua flags=allow-oom
-- Claim deliveries that are due, at most one of each target; first return those whose lease has expired.
-- A target that fails has one delivery at a time, and none while it is blocked.
-- Keys:    due, running
-- In:      token: of this claim, limit, lease_seconds, max_of_target and max_of_tenant: how many may run at a time
-- Out:     claimed, for each delivery: target, message, job or '', type, occurred_at, since, attempts, the time
-- Events:  none
local time = now()
-- More targets are not looked at; it is more than run at a time.
local MAX_TARGETS = 1000

local function split(delivery) return string.match(delivery, '^(.*)/([^/]*)$') end

for _, delivery in ipairs(redis.call('ZRANGEBYSCORE', key.running, '-inf', time)) do
  local target, message = split(delivery)
  redis.call('ZREM', key.running, delivery)
  if redis.call('EXISTS', delivery_key(target, message)) == 1 then
    redis.call('ZADD', pending_key(target), time, message)
  end
  schedule(target)
end

local running = {}
local function count(name) running[name] = (running[name] or 0) + 1 end
for _, delivery in ipairs(redis.call('ZRANGE', key.running, 0, -1)) do
  local target = split(delivery)
  count(target)
  count(get_tenant(target))
end

local function may_run(target)
  local health = redis.call('HMGET', health_key(target), 'failures', 'blocked_until')
  local most = tonumber(health[1] or 0) > 0 and 1 or arg.max_of_target
  return tonumber(health[2] or 0) <= time and (running[target] or 0) < most
    and (running[get_tenant(target)] or 0) < arg.max_of_tenant
end

local function claim(target)
  local message = redis.call('ZRANGEBYSCORE', pending_key(target), '-inf', time, 'LIMIT', 0, 1)[1]
  if not message then return nil end
  redis.call('ZREM', pending_key(target), message)
  local delivery = delivery_key(target, message)
  if redis.call('EXISTS', delivery) == 0 then return nil end
  redis.call('ZADD', key.running, time + arg.lease_seconds, target .. '/' .. message)
  redis.call('HSET', delivery, 'token', arg.token, 'attempted_at', format_time(time))
  local attempts = redis.call('HINCRBY', delivery, 'attempts', 1)
  local facts = redis.call('HMGET', delivery, 'job', 'type', 'occurred_at', 'since')
  count(target)
  count(get_tenant(target))
  return {target, message, facts[1], facts[2], facts[3], facts[4], attempts, format_time(time)}
end

local claimed = {}
for _, target in ipairs(redis.call('ZRANGEBYSCORE', key.due, '-inf', time, 'LIMIT', 0, MAX_TARGETS)) do
  if #claimed >= arg.limit then break end
  if may_run(target) then
    local delivery = claim(target)
    if delivery then table.insert(claimed, delivery) end
    schedule(target)
  end
end
return {'claimed', unpack(claimed)}
