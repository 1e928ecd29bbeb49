#!lua flags=allow-oom
-- Renew a lease, if the job is still this attempt's.
-- Keys:    job, leases
-- In:      id, attempt_name, lease_seconds
-- Out:     renewed | lost
-- Events:  none
local job = redis.call('HMGET', key.job, 'state', 'attempt_name')
if job[1] ~= 'running' or job[2] ~= arg.attempt_name then return {'lost'} end
redis.call('ZADD', key.leases, now() + arg.lease_seconds, arg.id)
return {'renewed'}
