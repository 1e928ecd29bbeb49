#!lua flags=allow-oom
-- Return a stalled job (running, but its lease has expired) to its place in its queue and enqueue a message, or report
-- that its attempts are exhausted.  From its first stall on it is a suspect.
-- A suspect that was claimed and not started has not stalled.  Only one that ran alone can be exhausted: of jobs that run
-- together any can be the cause.
-- Keys:    job, leases
-- In:      id, max_attempts, message
-- Out:     queued | exhausted | leased (the lease is valid) | not_running
-- Events:  the job, if it is watched
local job = redis.call('HMGET', key.job, 'state', 'stalls', 'exposed')
if job[1] ~= 'running' then
  end_lease(arg.id)
  return {'not_running'}
end
local lease = redis.call('ZSCORE', key.leases, arg.id)
if lease and tonumber(lease) > now() then return {'leased'} end
local stalls, is_counted = tonumber(job[2]), job[3] == '1'
-- An exhausted job keeps its expired lease, so that it is found again if the steward dies before it has failed the job.
if is_counted and stalls > 0 and stalls + 1 >= arg.max_attempts then return {'exhausted'} end
if is_counted then redis.call('HINCRBY', key.job, 'stalls', 1) end
end_lease(arg.id)
requeue(arg.id, arg.message, '{"reason":"stalled"}')
return {'queued'}
