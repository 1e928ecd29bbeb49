#!lua flags=allow-oom
-- Keep the record of a job that has ended for longer; never for less.
-- Keys:    job
-- In:      seconds: from now
-- Out:     kept, until when | unfinished | unknown (there is no record)
-- Events:  none
local job = redis.call('HMGET', key.job, 'state', 'kept_until')
if not job[1] then return {'unknown'} end
if job[1] == 'queued' or job[1] == 'running' then return {'unfinished'} end
local until_time = math.max(now() + arg.seconds, tonumber(job[2] or 0))
redis.call('HSET', key.job, 'kept_until', format_time(until_time))
local until_ms = math.ceil(1000 * until_time)
if redis.call('PEXPIRETIME', key.job) < until_ms then redis.call('PEXPIREAT', key.job, until_ms) end
return {'kept', format_time(until_time)}
