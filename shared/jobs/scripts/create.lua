#!lua
-- Record a new job as queued and enqueue its message, unless an earlier job stands for it.
-- Its place in the queue is its start in virtual time: see shared/jobs/fairness.py.
-- Keys:    job, unfinished, idempotency, tenant_jobs, tenants, queues, dedup, deadlines, input, payloads, purged, virtual_times
-- In:      id, request (JSON), queue, deadline_at or nil, max_queued, max_queued_per_tenant,
--          fingerprint or nil, idempotency_ms or nil: when the key expires; without it, with the record,
--          gone_id or nil: a job of which nothing is stored any more, so that its idempotency key is free,
--          listed_tenant or nil (not listed),
--          dedup_seconds or nil (no deduplication), reuse (whether an earlier job may be used),
--          message or nil (not enqueued), is_recovered (Redis lost the job, so no other one stands for it), created_at,
--          cost: in virtual time, tenant, bytes and pixels: of the image, quota_bytes: that the tenant's unfinished jobs may
--          have, quota_pixels: that it may submit on a day,
--          payload: the image or nil; and with it input_ms: how long to keep it,
--          payload_entry: its entry in the accounts, max_payload_bytes and max_payload_bytes_per_tenant
-- Out:     created | repeated (same idempotency key) | conflict (same key, other fingerprint) | cached (the result is
--          there) | coalesced (an identical job is under way) | full | tenant_full (too many jobs in the queue) |
--          payloads_full | tenant_payloads_full (too many bytes) | quota_bytes | quota_pixels (a quota is used up) |
--          purged (this job was, before it was recovered);  then the id of the job that stands for this one
-- Events:  none
local function find_full_payloads()
  for _, entry in ipairs(redis.call('ZRANGEBYSCORE', key.payloads, '-inf', now(), 'LIMIT', 0, 100)) do
    release_payload(entry)
  end
  local total, of_tenant = count_payload_bytes(arg.payload_entry)
  if total + #payload > arg.max_payload_bytes then return 'payloads_full' end
  if of_tenant + #payload > arg.max_payload_bytes_per_tenant then return 'tenant_payloads_full' end
end

-- A queue without a virtual time begins with the present, later than the places that an earlier version gave.
local function find_start(time)
  redis.call('HSETNX', key.virtual_times, arg.queue, time)
  local virtual_time = tonumber(redis.call('HGET', key.virtual_times, arg.queue))
  local last = redis.call('ZRANGE', key.unfinished, -1, -1, 'WITHSCORES')
  return math.max(virtual_time, tonumber(last[2] or 0))
end

if redis.call('EXISTS', key.purged) == 1 then return {'purged', arg.id} end
-- Ids are unique, so an existing record means that the client sent this script again after a lost reply.
if redis.call('EXISTS', key.job) == 1 then return {'created', arg.id} end
if arg.fingerprint and not arg.is_recovered then
  local earlier = redis.call('HMGET', key.idempotency, 'id', 'fingerprint')
  if earlier[1] and earlier[1] == arg.gone_id then
    redis.call('DEL', key.idempotency)
  elseif earlier[1] then
    return {earlier[2] == arg.fingerprint and 'repeated' or 'conflict', earlier[1]}
  end
end
if arg.dedup_seconds and arg.reuse then
  local other = redis.call('GET', key.dedup)
  if other then
    local state = redis.call('HGET', job_key(other), 'state')
    -- The record of a job that succeeded expires before its result does; a failed job deletes its deduplication key.
    if not state or state == 'succeeded' then return {'cached', other} end
    redis.call('HINCRBY', job_key(other), 'waiters', 1)
    return {'coalesced', other}
  end
end
local full = find_full_queue(arg.queue, key.unfinished) or not arg.is_recovered and find_exceeded_quota()
  or payload and find_full_payloads()
if full then return {full, ''} end
redis.call('HSET', key.job, 'request', arg.request, 'state', 'queued', 'queue', arg.queue,
  'deadline_at', arg.deadline_at or '', 'attempt', 0, 'stalls', 0, 'waiters', 1, 'pixels', arg.pixels,
  'events', add_event(nil, 'queued', arg.is_recovered and '{"recovered":true}'))
if arg.is_recovered then redis.call('HSET', key.job, 'recovered', 1) end
local time = now()
-- A job that Redis has lost comes before those that were created after it.
local start = find_start(time)
local place = arg.is_recovered and math.min(start, arg.created_at) or start
redis.call('ZADD', queued_key(arg.queue), place, arg.id)
add_queued_pixels(arg.queue, arg.pixels)
redis.call('ZADD', key.unfinished, place + arg.cost, arg.id)
add_queued_bytes(arg.tenant, arg.bytes)
if not arg.is_recovered then count_usage(arg.tenant, {submitted = 1, pixels = arg.pixels}) end
redis.call('SADD', key.queues, arg.queue)
-- The caller of a synchronous request, whose input is a payload, ends its job itself.
if arg.deadline_at and not payload then redis.call('ZADD', key.deadlines, arg.deadline_at, arg.id) end
-- A job that is recovered leaves the key to one that was submitted under it meanwhile.
if arg.fingerprint and redis.call('EXISTS', key.idempotency) == 0 then
  redis.call('HSET', key.idempotency, 'id', arg.id, 'fingerprint', arg.fingerprint)
  if arg.idempotency_ms then redis.call('PEXPIREAT', key.idempotency, arg.idempotency_ms) end
  redis.call('HSET', key.job, 'idempotency', key.idempotency)
end
if arg.listed_tenant then
  redis.call('ZADD', key.tenant_jobs, 0, arg.id)
  redis.call('SADD', key.tenants, arg.listed_tenant)
end
if arg.dedup_seconds then
  redis.call('SET', key.dedup, arg.id, 'EX', arg.dedup_seconds)
  redis.call('HSET', key.job, 'dedup', key.dedup)
end
if payload then
  redis.call('SET', key.input, payload, 'PX', arg.input_ms)
  keep_payload(arg.payload_entry, time + arg.input_ms / 1000)
end
if arg.message then redis.call('LPUSH', messages_key(arg.queue), arg.message) end
return {'created', arg.id}
