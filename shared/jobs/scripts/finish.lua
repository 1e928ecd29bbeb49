#!lua flags=allow-oom
-- Bring a job to its final state, once.  The bucket decides the state; only that the job is not final is checked here.
-- Keys:    job, unfinished, input, completed, purged
-- In:      id, model, state, failure (JSON) or nil, timings (JSON), record_seconds,
--          payload_entry or nil (its input is not a payload),
--          listed_tenant or nil (endpoints for all jobs do not get this one), has_webhook: whether it names one
-- Out:     finished | unknown | the final state that it has already
-- Events:  the job
redis.call('ZREM', key.unfinished, arg.id)
if arg.payload_entry then release_payload(arg.payload_entry) end
local job = redis.call('HMGET', key.job, 'state', 'queue', 'dedup')
if not job[1] then
  -- Redis has lost the job while it ran: the bucket has what a webhook says of it.
  if redis.call('EXISTS', key.purged) == 0 then enqueue_webhook(arg.id, arg.listed_tenant, arg.has_webhook) end
  return {'unknown'}
end
if job[1] ~= 'queued' and job[1] ~= 'running' then return {job[1]} end
redis.call('HSET', key.job, 'state', arg.state, 'failure', arg.failure or '', 'timings', arg.timings, 'ended_at', now())
redis.call('EXPIRE', key.job, arg.record_seconds)
redis.call('DEL', key.input)
if job[1] == 'running' then
  end_lease(arg.id)
  redis.call('HINCRBY', key.completed, arg.model, 1)
else
  remove_queued(arg.id, job[2])
end
-- Only a success is reused for identical requests.
if arg.state ~= 'succeeded' and job[3] and redis.call('GET', job[3]) == arg.id then redis.call('DEL', job[3]) end
publish_event(arg.id)
enqueue_webhook(arg.id, arg.listed_tenant, arg.has_webhook)
return {'finished'}
