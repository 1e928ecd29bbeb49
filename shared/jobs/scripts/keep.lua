#!lua flags=allow-oom
-- Keep the record of a job that has ended for longer; never for less.
-- The mark comes first, so that a steward that has not seen the object in the bucket deletes nothing of the job.
-- Keys:    job, kept_mark, ended_mark
-- In:      id, seconds: from now, mark_seconds: for which the mark stays
-- Out:     kept, until when | unfinished | unknown (there is no record) | ended (its objects are being deleted)
-- Events:  none
local job = redis.call('HMGET', key.job, 'state', 'kept_until', 'idempotency')
if redis.call('EXISTS', key.ended_mark) == 1 then return {'ended'} end
redis.call('SET', key.kept_mark, '', 'EX', arg.mark_seconds)
if not job[1] then return {'unknown'} end
if job[1] == 'queued' or job[1] == 'running' then return {'unfinished'} end
local until_time = math.max(now() + arg.seconds, tonumber(job[2] or 0))
redis.call('HSET', key.job, 'kept_until', format_time(until_time))
local until_ms = math.ceil(1000 * until_time)
local function keep(name)
  if redis.call('PEXPIRETIME', name) < until_ms then redis.call('PEXPIREAT', name, until_ms) end
end
keep(key.job)
-- The caller's own id is kept as long as the record; an idempotency key is not.
if job[3] and string.find(job[3], client_id_prefix, 1, true) and redis.call('HGET', job[3], 'id') == arg.id then
  keep(job[3])
end
return {'kept', format_time(until_time)}
