#!lua flags=allow-oom
-- Delete the deliveries of a target, and what is known of it.
-- Keys:    due
-- In:      target
-- Out:     forgotten
-- Events:  none
for _, list in ipairs({pending_key(arg.target), recent_key(arg.target)}) do
  for _, message in ipairs(redis.call('ZRANGE', list, 0, -1)) do
    redis.call('DEL', delivery_key(arg.target, message))
  end
  redis.call('DEL', list)
end
redis.call('DEL', health_key(arg.target))
redis.call('ZREM', key.due, arg.target)
return {'forgotten'}
