#!lua flags=allow-oom
-- Return a running job to its place in its queue because its worker cannot finish it now.  It does not count as a stall.
-- Keys:    job, leases
-- In:      id, attempt_name; message: to claim it at once, or delay_seconds: after which requeue_delayed.lua enqueues it
-- Out:     queued | lost (it is not this attempt's any more)
-- Events:  none
local job = redis.call('HMGET', key.job, 'state', 'attempt_name', 'queue', 'place')
if job[1] ~= 'running' or job[2] ~= arg.attempt_name then return {'lost'} end
redis.call('HSET', key.job, 'state', 'queued')
redis.call('ZREM', key.leases, arg.id)
if arg.delay_seconds then
  redis.call('ZADD', delayed_key(job[3]), now() + arg.delay_seconds, arg.id)
else
  redis.call('ZADD', queued_key(job[3]), job[4], arg.id)
  redis.call('LPUSH', messages_key(job[3]), arg.message)
end
return {'queued'}
