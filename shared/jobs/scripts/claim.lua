-- Claim a queued job for a worker, with an attempt number and a lease.
-- Keys:    job, leases, claimed_up_to
-- In:      id, worker, lease_seconds
-- Out:     claimed, attempt, request (JSON) | unknown | deadline_exceeded | the state of a job that is not queued
-- Events:  none
local job = redis.call('HMGET', key.job, 'state', 'queue', 'deadline_at', 'request')
if not job[1] then return {'unknown'} end
if job[1] ~= 'queued' then return {job[1]} end
local time = now()
if job[3] ~= '' and time > tonumber(job[3]) then return {'deadline_exceeded'} end
local queued_at = redis.call('ZSCORE', job[2], arg.id)
redis.call('ZREM', job[2], arg.id)
-- Messages of a queue are taken in order, so a job that was queued well before this one has lost its message.
if queued_at then redis.call('ZADD', key.claimed_up_to, 'GT', queued_at, job[2]) end
local attempt = redis.call('HINCRBY', key.job, 'attempt', 1)
redis.call('HSET', key.job, 'state', 'running', 'worker', arg.worker, 'started_at', time)
redis.call('ZADD', key.leases, time + arg.lease_seconds, arg.id)
return {'claimed', attempt, job[4]}
