#!lua flags=allow-oom
-- Delete all that Redis holds of a job, in any state, and remember that it was purged.
-- Keys:    job, input, reply, purged, kept_mark
-- In:      id, purged_seconds: how long to remember it
-- Out:     purged | unknown (there was no record)
-- Events:  the job; on mm:canceled too, if it runs
redis.call('SET', key.purged, '', 'EX', arg.purged_seconds)
redis.call('DEL', key.input, key.reply, key.kept_mark)
remove_webhooks(arg.id)
end_lease(arg.id)
local job = redis.call('HMGET', key.job, 'request', 'queue', 'dedup', 'idempotency', 'state')
if not job[1] then return {'unknown'} end
if job[5] == 'running' then publish_canceled(arg.id) end
remove_queued(arg.id, job[2])
redis.call('DEL', key.job)
redis.call('ZREM', tenant_jobs_key(cjson.decode(job[1]).tenant), arg.id)
release_accounts(arg.id, job[2], job[1])
if job[3] and redis.call('GET', job[3]) == arg.id then redis.call('DEL', job[3]) end
if job[4] and redis.call('HGET', job[4], 'id') == arg.id then redis.call('DEL', job[4]) end
-- Callers that wait for it find no record.
publish_event(arg.id)
return {'purged'}
