-- Name the queued jobs of one queue that are in nobody's hands, and mark them as queued anew.
-- A message is lost if the broker's queue is empty, or if jobs queued much later have been taken already.
-- KEYS: queued set     ARGV: grace seconds, messages waiting in the broker, most jobs
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local limit = now - ARGV[1]
if tonumber(ARGV[2]) > 0 then
  local claimed = redis.call('ZSCORE', 'mm:claimed', KEYS[1])
  limit = claimed and math.min(limit, claimed - ARGV[1]) or 0
end
local ids = redis.call('ZRANGE', KEYS[1], '-inf', limit, 'BYSCORE', 'LIMIT', 0, ARGV[3])
for _, id in ipairs(ids) do redis.call('ZADD', KEYS[1], now, id) end
return ids
