#!lua flags=no-writes
-- Tell how long webhooks wait.
-- Keys:    outbox, due, running
-- In:      nothing
-- Out:     measured, seconds since the end of the first job whose deliveries are not planned, seconds since the first
--          delivery was due, each 0 without one; number of targets with pending deliveries, of running deliveries
-- Events:  none
local time = now()
local function measure(list)
  local first = redis.call('ZRANGE', list, 0, 0, 'WITHSCORES')
  return string.format('%.3f', first[2] and math.max(0, time - tonumber(first[2])) or 0)
end
return {'measured', measure(key.outbox), measure(key.due), redis.call('ZCARD', key.due),
  redis.call('ZCARD', key.running)}
