-- Put a running job back into its queue: because its lease lapsed, or because its worker gave it back.
-- KEYS: job, leases     ARGV: id, attempt or '', 'lapsed' or 'returned', most lapses
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local job = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'queue', 'lapses')
if job[1] ~= 'running' then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return 'not running'
end
if ARGV[2] ~= '' and job[2] ~= ARGV[2] then return 'not yours' end
if ARGV[3] == 'lapsed' then
  local lease = redis.call('ZSCORE', KEYS[2], ARGV[1])
  if lease and tonumber(lease) > now then return 'alive' end
  -- An exhausted job keeps its lapsed lease, so that a steward who dies before ending it is not the last to try.
  if tonumber(job[4]) + 1 >= tonumber(ARGV[4]) then return 'exhausted' end
  redis.call('HINCRBY', KEYS[1], 'lapses', 1)
end
redis.call('HSET', KEYS[1], 'state', 'queued')
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZADD', job[3], now, ARGV[1])
return 'queued'
