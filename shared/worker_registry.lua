-- Take a snapshot of the worker registry.
--
-- KEYS[1]  workers       sorted set of worker ids by the time of their last heartbeat
-- KEYS[2]  models        sorted set of model ids by the time of their last heartbeat
-- KEYS[3]  load_seconds  hash from model id to the duration of its last load
-- ARGV[1]  worker_key_prefix        of the heartbeats' own keys, which expire
-- ARGV[2]  model_retention_seconds
--
-- Returns {heartbeats as JSON in the order of worker ids, model ids, flat list of model id and load seconds}.
local workers, models, load_seconds = KEYS[1], KEYS[2], KEYS[3]
local worker_key_prefix, model_retention_seconds = ARGV[1], ARGV[2]

local heartbeats = {}
local ids = redis.call('ZRANGE', workers, 0, -1)
table.sort(ids)
for _, id in ipairs(ids) do
  local heartbeat = redis.call('GET', worker_key_prefix .. id)
  if heartbeat then table.insert(heartbeats, heartbeat) end
end
local oldest = redis.call('TIME')[1] - model_retention_seconds
return {heartbeats, redis.call('ZRANGEBYSCORE', models, oldest, '+inf'), redis.call('HGETALL', load_seconds)}
