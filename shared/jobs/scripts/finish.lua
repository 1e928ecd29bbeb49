-- Bring a job to its final state, once.  Who may is not asked here: the bucket has plan_execution that already.
-- KEYS: job, leases
-- ARGV: id, state, failure or '', timings, record seconds
local job = redis.call('HMGET', KEYS[1], 'state', 'queue', 'work')
if not job[1] then return 'unknown' end
if job[1] ~= 'queued' and job[1] ~= 'running' then return job[1] end
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
redis.call('HSET', KEYS[1], 'state', ARGV[2], 'failure', ARGV[3], 'timings', ARGV[4], 'ended_at', now)
redis.call('EXPIRE', KEYS[1], ARGV[5])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', job[2], ARGV[1])
-- What did not succeed is of no use to others who ask for the same.
if ARGV[2] ~= 'succeeded' and job[3] and redis.call('GET', job[3]) == ARGV[1] then redis.call('DEL', job[3]) end
redis.call('PUBLISH', 'mm:events', ARGV[1])
return 'finished'
