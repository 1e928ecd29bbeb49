#!lua flags=allow-oom
-- Decrement the number of callers that wait for a job.
-- Keys:    job
-- In:      nothing
-- Out:     waiting, number of callers that still wait | unknown
-- Events:  none
if redis.call('EXISTS', key.job) == 0 then return {'unknown'} end
return {'waiting', redis.call('HINCRBY', key.job, 'waiters', -1)}
