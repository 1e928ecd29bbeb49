#!lua flags=allow-oom
-- Record a job that has succeeded without a worker: a recut that was stored.  Its result is in the bucket already.
-- Keys:    job, tenant_jobs, tenants, purged
-- In:      id, request (JSON), queue, tenant, attempt_name, timings (JSON), record_seconds,
--          listed_tenant or nil (not listed, and endpoints for all jobs do not get it), has_webhook: whether it names one
-- Out:     recorded (now, or before) | purged (this job was, meanwhile)
-- Events:  the job
if redis.call('EXISTS', key.purged) == 1 then return {'purged'} end
-- Ids are unique, so an existing record means that this script was sent again after a lost reply.
if redis.call('EXISTS', key.job) == 1 then return {'recorded'} end
local time = now()
redis.call('HSET', key.job, 'request', arg.request, 'state', 'succeeded', 'queue', arg.queue, 'deadline_at', '',
  'attempt', 1, 'attempt_name', arg.attempt_name, 'stalls', 0, 'waiters', 0, 'started_at', time, 'ended_at', time,
  'failure', '', 'timings', arg.timings, 'events', add_event(add_event(nil, 'queued'), 'succeeded'))
redis.call('EXPIRE', key.job, arg.record_seconds)
-- It was on no device, so it adds to no quota and to no activity of its model.
count_usage(arg.tenant, {submitted = 1, succeeded = 1})
if arg.listed_tenant then
  redis.call('ZADD', key.tenant_jobs, 0, arg.id)
  redis.call('SADD', key.tenants, arg.listed_tenant)
end
publish_event(arg.id)
enqueue_webhook(arg.id, arg.listed_tenant, arg.has_webhook)
return {'recorded'}
