-- Find jobs of one queue that are queued but whose message is lost, and reset their time of queueing.
-- A message is lost if the broker's list is empty, or if jobs that were queued much later have been claimed already.
-- Keys:    queued, claimed_up_to
-- In:      grace_seconds, waiting_messages (in the broker's list), limit
-- Out:     found, ids ...
-- Events:  none
local time = now()
local highest = time - arg.grace_seconds
if arg.waiting_messages > 0 then
  local claimed = redis.call('ZSCORE', key.claimed_up_to, key.queued)
  highest = claimed and math.min(highest, claimed - arg.grace_seconds) or 0
end
local ids = redis.call('ZRANGE', key.queued, '-inf', highest, 'BYSCORE', 'LIMIT', 0, arg.limit)
for _, id in ipairs(ids) do redis.call('ZADD', key.queued, time, id) end
return {'found', unpack(ids)}
