-- Record a new job as queued, together with its idempotency key, or say which job that key already stands for.
-- KEYS: job, queued set of its queue, idempotency key, index of the tenant
-- ARGV: id, request, queue, deadline_at or '', most queued, fingerprint or '', idempotency seconds, tenant if it is to be listed, or ''
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
if ARGV[6] ~= '' then
  local earlier = redis.call('HMGET', KEYS[3], 'id', 'fingerprint')
  if earlier[1] then
    return {earlier[2] == ARGV[6] and 'same' or 'conflict', earlier[1]}
  end
end
if redis.call('EXISTS', KEYS[1]) == 1 then return {'exists', ARGV[1]} end
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[5]) then return {'full', ''} end
redis.call('HSET', KEYS[1], 'request', ARGV[2], 'state', 'queued', 'queue', KEYS[2], 'deadline_at', ARGV[4],
  'attempt', 0, 'lapses', 0)
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
return {'created', ARGV[1]}
