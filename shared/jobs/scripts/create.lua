-- Record a new job as queued and tell the workers of it, or say which earlier job stands for it: that of its
-- idempotency key, or one that has, or soon will have, the result of the same work.
-- KEYS: job, queued set of its queue, idempotency key, index of the tenant, work, messages of its queue, its image
-- ARGV: id, request, queue, deadline_at or '', most queued, fingerprint or '', idempotency seconds,
--       tenant if it is to be listed or '', 'take' or 'offer' or '' (the work), seconds to offer it,
--       message or '', image or '', milliseconds to keep it
-- An id is drawn for one submission, so this is the same script, sent again by a client who missed the answer.
if redis.call('EXISTS', KEYS[1]) == 1 then return {'created', ARGV[1]} end
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
if ARGV[6] ~= '' then
  local earlier = redis.call('HMGET', KEYS[3], 'id', 'fingerprint')
  if earlier[1] then
    return {earlier[2] == ARGV[6] and 'repeated' or 'conflict', earlier[1]}
  end
end
if ARGV[9] == 'take' then
  local other = redis.call('GET', KEYS[5])
  if other then
    local state = redis.call('HGET', 'mm:job:' .. other, 'state')
    -- The record of a job that succeeded goes before its result does; a job that did not succeed offers nothing.
    if not state or state == 'succeeded' then return {'known', other} end
    redis.call('HINCRBY', 'mm:job:' .. other, 'waiters', 1)
    return {'joined', other}
  end
end
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[5]) then return {'full', ''} end
redis.call('HSET', KEYS[1], 'request', ARGV[2], 'state', 'queued', 'queue', KEYS[2], 'deadline_at', ARGV[4],
  'attempt', 0, 'lapses', 0, 'waiters', 1)
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('SADD', 'mm:queues', ARGV[3])
if ARGV[6] ~= '' then
  redis.call('HSET', KEYS[3], 'id', ARGV[1], 'fingerprint', ARGV[6])
  redis.call('EXPIRE', KEYS[3], ARGV[7])
end
if ARGV[8] ~= '' then
  redis.call('ZADD', KEYS[4], 0, ARGV[1])
  redis.call('SADD', 'mm:tenants', ARGV[8])
end
if ARGV[9] ~= '' then
  redis.call('SET', KEYS[5], ARGV[1], 'EX', ARGV[10])
  redis.call('HSET', KEYS[1], 'work', KEYS[5])
end
if ARGV[12] ~= '' then redis.call('SET', KEYS[7], ARGV[12], 'PX', ARGV[13]) end
if ARGV[11] ~= '' then redis.call('LPUSH', KEYS[6], ARGV[11]) end
return {'created', ARGV[1]}
