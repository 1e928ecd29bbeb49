#!lua flags=allow-oom
-- Return a running job to its place in its queue because its worker cannot finish it now.  It does not count as a stall.
-- With a delay requeue_delayed.lua enqueues it later; each counted delay is twice the one before.
-- Keys:    job
-- In:      id, attempt_name, message: to claim it at once; or delay_seconds: the first delay, max_delay_seconds,
--          jitter: in [0, 1), and max_retries, or nil if this one is not counted
-- Out:     queued | exhausted (returned too often: it is running still, to be failed) | lost (not this attempt's any more)
-- Events:  the job, if it is watched
local job = redis.call('HMGET', key.job, 'state', 'attempt_name', 'queue', 'deadline_at', 'retries')
if job[1] ~= 'running' or job[2] ~= arg.attempt_name then return {'lost'} end

-- Half of the delay is left to chance.  A job is due at its deadline at the latest, so that its caller hears of it then.
local function find_due_time(retries)
  local time, deadline = now(), tonumber(job[4])
  local delay = math.min(arg.max_delay_seconds, arg.delay_seconds * 2 ^ retries)
  local due = time + delay * (1 + arg.jitter) / 2
  return deadline and deadline > time and math.min(due, deadline) or due
end

local retries = tonumber(job[5] or 0)
if arg.max_retries and retries >= arg.max_retries then return {'exhausted'} end
end_lease(arg.id)
if arg.message then
  requeue(arg.id, arg.message, '{"reason":"given_back"}')
else
  redis.call('ZADD', delayed_key(job[3]), find_due_time(arg.max_retries and retries or 0), arg.id)
  redis.call('HSET', key.job, 'state', 'queued')
  if arg.max_retries then redis.call('HINCRBY', key.job, 'retries', 1) end
  append_event(arg.id, 'requeued', '{"reason":"delayed"}')
end
return {'queued'}
