#!lua flags=allow-oom
-- Bring a job to its final state, once.  The bucket decides the state; only that the job is not final is checked here.
-- Keys:    job, unfinished, deadlines, input, completed, purged, service_times
-- In:      id, model, state, failure (JSON) or nil, timings (JSON), record_seconds, has_client_id,
--          payload_entry or nil (its input is not a payload), tenant, bytes: of its input, device_ms,
--          batch_size: images that were on the device together or 0, failure_code or nil,
--          listed_tenant or nil (endpoints for all jobs do not get this one), has_webhook: whether it names one,
--          megapixels: of its image, work_ms: of its stages, queues: those of the model
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

-- Sums over the last jobs of the model: of the work of each by its pixels (x, y), and of what all workers have completed
-- while a job was queued, so that none was idle: busy in the last half minute or so, recent in the last seconds.  Older
-- ones count less.
local function measure_service(time)
  local found = redis.call('GET', key.service_times)
  local sums = found and cjson.decode(found) or {jobs = 0, x = 0, y = 0, xx = 0, xy = 0, yy = 0,
    busy_seconds = 0, busy_jobs = 0, busy_x = 0, recent_seconds = 0, recent_jobs = 0, recent_x = 0}
  local x, y = arg.megapixels, arg.work_ms
  for name, value in pairs({jobs = 1, x = x, y = y, xx = x * x, xy = x * y, yy = y * y}) do
    sums[name] = sums[name] * 0.98 + value
  end
  local seconds = sums.at and time - sums.at or 0
  if sums.has_backlog and seconds >= 0 and seconds < 60 then
    for window, length in pairs({busy = 30, recent = 6}) do
      for name, value in pairs({seconds = seconds, jobs = 1, x = x}) do
        name = window .. '_' .. name
        sums[name] = sums[name] * math.exp(-seconds / length) + value
      end
    end
  end
  local queues = {}
  for _, queue in ipairs(arg.queues) do
    table.insert(queues, queued_key(queue))
    table.insert(queues, suspects_key(queue))
  end
  sums.at, sums.has_backlog = time, redis.call('EXISTS', unpack(queues)) > 0
  redis.call('SET', key.service_times, cjson.encode(sums), 'EX', 604800)
end

-- The bytes of an image that was only named were not counted: its worker has recorded its facts since.
local counted_bytes = redis.call('HEXISTS', key.job, 'image') == 1 and 0 or arg.bytes
if redis.call('ZREM', key.unfinished, arg.id) == 1 then add_queued_bytes(arg.tenant, -counted_bytes) end
redis.call('ZREM', key.deadlines, arg.id)
if arg.payload_entry then release_payload(arg.payload_entry) end
local job = redis.call('HMGET', key.job, 'state', 'queue', 'dedup', 'events')
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
  measure_service(now())
else
  remove_queued(arg.id, job[2])
end
-- Only a success is reused for identical requests.
if arg.state ~= 'succeeded' and job[3] and redis.call('GET', job[3]) == arg.id then redis.call('DEL', job[3]) end
publish_event(arg.id)
enqueue_webhook(arg.id, arg.listed_tenant, arg.has_webhook)
return {'finished'}
