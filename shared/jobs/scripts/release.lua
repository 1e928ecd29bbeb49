-- Return a running job to its queue because its worker cannot finish it now.  It does not count as a stall.
-- Keys:    job, leases
-- In:      id, attempt
-- Out:     queued | lost (it is not this attempt's any more)
-- Events:  none
local job = redis.call('HMGET', key.job, 'state', 'attempt', 'queue')
if job[1] ~= 'running' or tonumber(job[2]) ~= arg.attempt then return {'lost'} end
redis.call('HSET', key.job, 'state', 'queued')
redis.call('ZREM', key.leases, arg.id)
redis.call('ZADD', job[3], now(), arg.id)
return {'queued'}
