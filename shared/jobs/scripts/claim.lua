-- Give a queued job to a worker, with an attempt number and a lease.  Anything but queued is refused with its state.
-- KEYS: job, leases     ARGV: id, worker, lease seconds
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local job = redis.call('HMGET', KEYS[1], 'state', 'queue', 'deadline_at', 'request')
if not job[1] then return {'unknown'} end
if job[1] ~= 'queued' then return {job[1]} end
if job[3] ~= '' and now > tonumber(job[3]) then return {'late'} end
local queued_at = redis.call('ZSCORE', job[2], ARGV[1])
redis.call('ZREM', job[2], ARGV[1])
-- Messages of a queue are taken in order, so whatever was queued well before this job has been passed over.
if queued_at then redis.call('ZADD', 'mm:claimed', 'GT', queued_at, job[2]) end
local attempt = redis.call('HINCRBY', KEYS[1], 'attempt', 1)
redis.call('HSET', KEYS[1], 'state', 'running', 'worker', ARGV[2], 'started_at', now)
redis.call('ZADD', KEYS[2], now + ARGV[3], ARGV[1])
return {'claimed', attempt, job[4]}
