#!lua flags=allow-oom
-- Renew a lease, if the job is still this attempt's.
-- Keys:    job, leases
-- In:      id, attempt, lease_seconds
-- Out:     renewed | lost
-- Events:  none
local job = redis.call('HMGET', key.job, 'state', 'attempt')
if job[1] ~= 'running' or tonumber(job[2]) ~= arg.attempt then return {'lost'} end
redis.call('ZADD', key.leases, now() + arg.lease_seconds, arg.id)
return {'renewed'}
