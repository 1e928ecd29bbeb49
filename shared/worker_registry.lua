-- Read all heartbeats at once.
-- KEYS: workers by their last heartbeat, models likewise, how long each model took to load
-- ARGV: for how many seconds a model is known
local workers = {}
local ids = redis.call('ZRANGE', KEYS[1], 0, -1)
table.sort(ids)
for _, id in ipairs(ids) do
  local status = redis.call('GET', 'mm:worker:' .. id)
  if status then table.insert(workers, status) end
end
local since = redis.call('TIME')[1] - ARGV[1]
return {workers, redis.call('ZRANGEBYSCORE', KEYS[2], since, '+inf'), redis.call('HGETALL', KEYS[3])}
