#!lua flags=allow-oom
-- Roll back a job that no worker has claimed yet, as if it had not been created.
-- Keys:    job, idempotency, tenant_jobs, input
-- In:      id
-- Out:     discarded | claimed (it is left to its worker) | unknown
-- Events:  the job
local job = redis.call('HMGET', key.job, 'attempt', 'dedup', 'queue', 'request')
if not job[1] then return {'unknown'} end
if job[1] ~= '0' then return {'claimed'} end
remove_queued(arg.id, job[3])
redis.call('DEL', key.job, key.input)
release_accounts(arg.id, job[3], job[4])
redis.call('ZREM', key.tenant_jobs, arg.id)
if redis.call('HGET', key.idempotency, 'id') == arg.id then redis.call('DEL', key.idempotency) end
if job[2] and redis.call('GET', job[2]) == arg.id then redis.call('DEL', job[2]) end
-- A request that was coalesced with it finds no record, and is submitted again.
publish_event(arg.id)
return {'discarded'}
