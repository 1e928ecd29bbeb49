#!lua flags=allow-oom
-- Append an event to the log of a job whose attempt has come to a stage; called only for a job that somebody watches.
-- Keys:    job
-- In:      id, attempt_name, stage
-- Out:     logged | lost (it is not this attempt's any more)
-- Events:  the job, if it is watched
local job = redis.call('HMGET', key.job, 'state', 'attempt_name', 'attempt')
if job[1] ~= 'running' or job[2] ~= arg.attempt_name then return {'lost'} end
append_event(arg.id, 'stage', cjson.encode({stage = arg.stage, attempt = tonumber(job[3])}))
return {'logged'}
