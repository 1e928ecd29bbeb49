#!lua flags=allow-oom
-- Return a stalled job (running, but its lease has expired) to its place in its queue and enqueue a message, or report
-- that its attempts are exhausted.
-- Keys:    job, leases
-- In:      id, max_attempts, message
-- Out:     queued | exhausted | leased (the lease is valid) | not_running
-- Events:  none
local job = redis.call('HMGET', key.job, 'state', 'queue', 'stalls', 'place')
if job[1] ~= 'running' then
  redis.call('ZREM', key.leases, arg.id)
  return {'not_running'}
end
local lease = redis.call('ZSCORE', key.leases, arg.id)
if lease and tonumber(lease) > now() then return {'leased'} end
-- An exhausted job keeps its expired lease, so that it is found again if the steward dies before it has failed the job.
if tonumber(job[3]) + 1 >= arg.max_attempts then return {'exhausted'} end
redis.call('HINCRBY', key.job, 'stalls', 1)
redis.call('HSET', key.job, 'state', 'queued')
redis.call('ZREM', key.leases, arg.id)
redis.call('ZADD', queued_key(job[2]), job[4], arg.id)
redis.call('LPUSH', messages_key(job[2]), arg.message)
return {'queued'}
