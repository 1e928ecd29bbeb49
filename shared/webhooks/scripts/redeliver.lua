#!lua flags=allow-oom
-- Send a delivery again, in whichever state it is, with retries as for a new one; a target that is blocked is tried now.
-- Keys:    running
-- In:      target, message
-- Out:     pending | unknown
-- Events:  none
local delivery, time = delivery_key(arg.target, arg.message), now()
if redis.call('EXISTS', delivery) == 0 then return {'unknown'} end
if not redis.call('ZSCORE', key.running, arg.target .. '/' .. arg.message) then
  redis.call('HSET', delivery, 'state', 'pending', 'since', format_time(time))
  redis.call('ZADD', pending_key(arg.target), time, arg.message)
end
redis.call('PERSIST', delivery)
redis.call('HDEL', health_key(arg.target), 'blocked_until')
schedule(arg.target)
return {'pending'}
