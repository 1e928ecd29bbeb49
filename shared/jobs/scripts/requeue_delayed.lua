#!lua flags=allow-oom
-- Return a released job to its place in its queue once its delay is over, and enqueue a message.
-- Keys:    job, delayed
-- In:      id, message
-- Out:     queued | delayed (the delay is not over) | unknown (it is not delayed any more)
-- Events:  the job, if it is watched
local until_time = redis.call('ZSCORE', key.delayed, arg.id)
if not until_time then return {'unknown'} end
if tonumber(until_time) > now() then return {'delayed'} end
redis.call('ZREM', key.delayed, arg.id)
if redis.call('EXISTS', key.job) == 0 then return {'unknown'} end
requeue(arg.id, arg.message, '{"reason":"delay_over"}')
return {'queued'}
