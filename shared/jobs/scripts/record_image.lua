#!lua flags=allow-oom
-- Record the facts of an image that its worker has read, if the job is still this attempt's.
-- Keys:    job
-- In:      attempt_name, image (JSON)
-- Out:     recorded | lost
-- Events:  none
local job = redis.call('HMGET', key.job, 'state', 'attempt_name')
if job[1] ~= 'running' or job[2] ~= arg.attempt_name then return {'lost'} end
redis.call('HSET', key.job, 'image', arg.image)
return {'recorded'}
