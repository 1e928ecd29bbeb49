#!lua flags=allow-oom
-- Renew a lease, if the job is still this attempt's.
-- Keys:    job, leases
-- In:      id, attempt_name, lease_seconds
-- Out:     renewed, whether it is watched (1 or 0) | lost
-- Events:  none
local job = redis.call('HMGET', key.job, 'state', 'attempt_name', 'watched')
if job[1] ~= 'running' or job[2] ~= arg.attempt_name then return {'lost'} end
redis.call('ZADD', key.leases, now() + arg.lease_seconds, arg.id)
return {'renewed', job[3] and 1 or 0}
