-- Bring a job to its final state.  The first to come wins; with an attempt, only the attempt that holds the job may.
-- KEYS: job, leases
-- ARGV: id, attempt or '', state, failure or '', timings, record seconds
local job = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'queue')
if not job[1] then return 'unknown' end
if job[1] ~= 'queued' and job[1] ~= 'running' then return job[1] end
if ARGV[2] ~= '' and job[2] ~= ARGV[2] then return 'not yours' end
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
redis.call('HSET', KEYS[1], 'state', ARGV[3], 'failure', ARGV[4], 'timings', ARGV[5], 'ended_at', now)
redis.call('EXPIRE', KEYS[1], ARGV[6])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', job[3], ARGV[1])
redis.call('PUBLISH', 'mm:events', ARGV[1])
return 'finished'
