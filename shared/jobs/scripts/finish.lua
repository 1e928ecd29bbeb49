#!lua flags=allow-oom
-- Bring a job to its final state, once.  The bucket decides the state; only that the job is not final is checked here.
-- Keys:    job, unfinished, deadlines, input, completed
-- In:      id, model, state, failure (JSON) or nil, timings (JSON), record_seconds, has_client_id,
--          payload_entry or nil (its input is not a payload)
-- Out:     finished | unknown | the final state that it has already
-- Events:  the job
redis.call('ZREM', key.unfinished, arg.id)
redis.call('ZREM', key.deadlines, arg.id)
if arg.payload_entry then release_payload(arg.payload_entry) end
local job = redis.call('HMGET', key.job, 'state', 'queue', 'dedup')
if not job[1] then return {'unknown'} end
if job[1] ~= 'queued' and job[1] ~= 'running' then return {job[1]} end
redis.call('HSET', key.job, 'state', arg.state, 'failure', arg.failure or '', 'timings', arg.timings, 'ended_at', now())
redis.call('EXPIRE', key.job, arg.record_seconds)
-- The caller's own id of the job is kept as long as its record.
local named = arg.has_client_id and redis.call('HGET', key.job, 'idempotency')
if named and redis.call('HGET', named, 'id') == arg.id then redis.call('EXPIRE', named, arg.record_seconds) end
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
return {'finished'}
