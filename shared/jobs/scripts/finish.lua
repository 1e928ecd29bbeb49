#!lua flags=allow-oom
-- Bring a job to its final state, once.  The bucket decides the state; only that the job is not final is checked here.
-- Keys:    job, unfinished, input, completed
-- In:      id, model, state, failure (JSON) or nil, timings (JSON), record_seconds,
--          payload_entry or nil (its input is not a payload), tenant, bytes: of its input, device_ms,
--          batch_size: images that were on the device together or 0, failure_code or nil
-- Out:     finished | unknown | the final state that it has already
-- Events:  the job; on mm:canceled too, if it is canceled while it runs
-- The ring of the last hours, by minute.
local function count_activity()
  local minute = minute_key(arg.model)
  redis.call('HINCRBY', minute, arg.state, 1)
  if arg.failure_code then redis.call('HINCRBY', minute, 'error:' .. arg.failure_code, 1) end
  if arg.batch_size > 0 then
    redis.call('HINCRBY', minute, 'images', 1)
    redis.call('HINCRBY', minute, 'batch_sizes', arg.batch_size)
    redis.call('HINCRBY', minute, 'device_ms', arg.device_ms)
  end
  redis.call('EXPIRE', minute, 7200)
end

-- The bytes of an image that was only named were not counted: its worker has recorded its facts since.
local counted_bytes = redis.call('HEXISTS', key.job, 'image') == 1 and 0 or arg.bytes
if redis.call('ZREM', key.unfinished, arg.id) == 1 then add_queued_bytes(arg.tenant, -counted_bytes) end
if arg.payload_entry then release_payload(arg.payload_entry) end
local job = redis.call('HMGET', key.job, 'state', 'queue', 'dedup')
if not job[1] then return {'unknown'} end
if job[1] ~= 'queued' and job[1] ~= 'running' then return {job[1]} end
redis.call('HSET', key.job, 'state', arg.state, 'failure', arg.failure or '', 'timings', arg.timings, 'ended_at', now())
redis.call('EXPIRE', key.job, arg.record_seconds)
redis.call('DEL', key.input)
count_usage(arg.tenant, {[arg.state] = 1, device_ms = arg.device_ms})
count_activity()
if job[1] == 'running' then
  end_lease(arg.id)
  redis.call('HINCRBY', key.completed, arg.model, 1)
  if arg.state == 'canceled' then publish_canceled(arg.id) end
else
  remove_queued(arg.id, job[2])
end
-- Only a success is reused for identical requests.
if arg.state ~= 'succeeded' and job[3] and redis.call('GET', job[3]) == arg.id then redis.call('DEL', job[3]) end
publish_event(arg.id)
return {'finished'}
