#!lua flags=allow-oom
-- Turn the end of a job, or a ping, into one delivery for each target, once.
-- Keys:    outbox
-- In:      job: its id, or nil for a ping; message, type, occurred_at, targets, max_pending: of one target,
--          max_recent: how many a target lists
-- Out:     planned, targets that have too many pending deliveries, so that they get none
-- Events:  none
local time, full, planned = now(), {}, {}

-- What is listed no longer is not kept either; a pending one until it ends.
local function trim_recent(target)
  for _, message in ipairs(redis.call('ZRANGE', recent_key(target), 0, -arg.max_recent - 1)) do
    redis.call('ZREM', recent_key(target), message)
    local delivery = delivery_key(target, message)
    if redis.call('HGET', delivery, 'state') ~= 'pending' then redis.call('DEL', delivery) end
  end
end

for _, target in ipairs(arg.targets) do
  local delivery = delivery_key(target, arg.message)
  if redis.call('EXISTS', delivery) == 1 then
    table.insert(planned, target .. '/' .. arg.message)
  elseif redis.call('ZCARD', pending_key(target)) >= arg.max_pending then
    table.insert(full, target)
  else
    redis.call('HSET', delivery, 'job', arg.job or '', 'type', arg.type, 'occurred_at', arg.occurred_at,
      'state', 'pending', 'attempts', 0, 'created_at', format_time(time), 'since', format_time(time))
    redis.call('ZADD', pending_key(target), time, arg.message)
    redis.call('ZADD', recent_key(target), time, arg.message)
    trim_recent(target)
    schedule(target)
    table.insert(planned, target .. '/' .. arg.message)
  end
end
if arg.job then
  redis.call('ZREM', key.outbox, arg.job)
  if planned[1] and redis.call('EXISTS', job_key(arg.job)) == 1 then
    redis.call('HSET', job_key(arg.job), 'deliveries', cjson.encode(planned))
  end
end
return {'planned', unpack(full)}
