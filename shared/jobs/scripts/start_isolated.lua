#!lua flags=allow-oom
-- Record that a suspect runs now, alone; only from now on its stall counts.
-- Keys:    job
-- In:      attempt_name
-- Out:     started | lost (it is not this attempt's any more)
-- Events:  none
local job = redis.call('HMGET', key.job, 'state', 'attempt_name')
if job[1] ~= 'running' or job[2] ~= arg.attempt_name then return {'lost'} end
redis.call('HSET', key.job, 'exposed', 1)
return {'started'}
