#!lua flags=allow-oom
-- Bring a job to its final state, once.  The bucket decides the state; only that the job is not final is checked here.
-- Keys:    job, unfinished, deadlines, input, completed, purged, ended_work
-- In:      id, model, state, failure (JSON) or nil, timings (JSON), record_seconds, has_client_id,
--          payload_entry or nil (its input is not a payload), tenant, bytes: of its input, device_ms,
--          batch_size: images that were on the device together or 0, failure_code or nil,
--          listed_tenant or nil (endpoints for all jobs do not get this one), has_webhook: whether it names one,
--          megapixels: of its image, work_ms: of its own stages, queues: those of the model
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

-- The last jobs that ran: when they ended, the end of the worker's name, megapixels and work, and whether another job was
-- queued then, so that no worker was idle.
local function list_work(worker, time)
  local queues = {}
  for _, queue in ipairs(arg.queues) do
    table.insert(queues, queued_key(queue))
    table.insert(queues, suspects_key(queue))
  end
  local has_backlog = redis.call('EXISTS', unpack(queues)) > 0 and 1 or 0
  local ended = {time, string.sub(worker or '', -12), arg.megapixels, arg.work_ms, has_backlog}
  redis.call('LPUSH', key.ended_work, cjson.encode(ended))
  redis.call('LTRIM', key.ended_work, 0, 599)
  redis.call('EXPIRE', key.ended_work, 86400)
end

-- The bytes of an image that was only named were not counted: its worker has recorded its facts since.
local counted_bytes = redis.call('HEXISTS', key.job, 'image') == 1 and 0 or arg.bytes
if redis.call('ZREM', key.unfinished, arg.id) == 1 then add_queued_bytes(arg.tenant, -counted_bytes) end
redis.call('ZREM', key.deadlines, arg.id)
if arg.payload_entry then release_payload(arg.payload_entry) end
local job = redis.call('HMGET', key.job, 'state', 'queue', 'dedup', 'events', 'worker')
if not job[1] then
  -- Redis has lost the job while it ran: the bucket has what a webhook says of it.
  if redis.call('EXISTS', key.purged) == 0 then enqueue_webhook(arg.id, arg.listed_tenant, arg.has_webhook) end
  return {'unknown'}
end
if job[1] ~= 'queued' and job[1] ~= 'running' then return {job[1]} end
redis.call('HSET', key.job, 'state', arg.state, 'failure', arg.failure or '', 'timings', arg.timings, 'ended_at', now(),
  'events', add_event(job[4], arg.state))
redis.call('EXPIRE', key.job, arg.record_seconds)
-- The caller's own id of the job is kept as long as its record.
local named = arg.has_client_id and redis.call('HGET', key.job, 'idempotency')
if named and redis.call('HGET', named, 'id') == arg.id then redis.call('EXPIRE', named, arg.record_seconds) end
redis.call('DEL', key.input)
count_usage(arg.tenant, {[arg.state] = 1, device_ms = arg.device_ms})
count_activity()
if job[1] == 'running' then
  end_lease(arg.id)
  redis.call('HINCRBY', key.completed, arg.model, 1)
  if arg.state == 'canceled' then publish_canceled(arg.id) end
  list_work(job[5], now())
else
  remove_queued(arg.id, job[2])
end
-- Only a success is reused for identical requests.
if arg.state ~= 'succeeded' and job[3] and redis.call('GET', job[3]) == arg.id then redis.call('DEL', job[3]) end
publish_event(arg.id)
enqueue_webhook(arg.id, arg.listed_tenant, arg.has_webhook)
return {'finished'}
