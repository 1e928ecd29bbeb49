#!lua flags=allow-oom
-- Write one heartbeat of a worker, also while Redis is out of memory.
--
-- KEYS[1]  worker        string, the heartbeat
-- KEYS[2]  workers       sorted set of worker ids by the time of their last heartbeat
-- KEYS[3]  models        sorted set of model ids by the time of their last heartbeat
-- KEYS[4]  load_seconds  hash from model id to the duration of its last load
-- ARGV[1]  worker_id
-- ARGV[2]  heartbeat        JSON
-- ARGV[3]  timeout_seconds  after which the heartbeat expires
-- ARGV[4]  model
-- ARGV[5]  is_usable        0: the setup of the worker failed, so the model is not listed because of it
-- ARGV[6]  load_seconds     of this worker, or empty: not loaded yet
local worker, workers, models, load_seconds = unpack(KEYS)
local worker_id, heartbeat, timeout_seconds, model, is_usable, seconds = unpack(ARGV)

local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
redis.call('SET', worker, heartbeat, 'EX', timeout_seconds)
redis.call('ZADD', workers, now, worker_id)
redis.call('ZREMRANGEBYSCORE', workers, '-inf', now - 10 * timeout_seconds)
if is_usable == '1' then redis.call('ZADD', models, now, model) end
if seconds ~= '' then redis.call('HSET', load_seconds, model, seconds) end
