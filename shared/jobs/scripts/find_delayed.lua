#!lua flags=no-writes
-- Find released jobs whose delay is over.
-- Keys:    queues
-- In:      limit: for each queue
-- Out:     found, for each queue with such jobs a list: its name, id of each
-- Events:  none
local time = now()
local found = {}
for _, queue in ipairs(redis.call('SMEMBERS', key.queues)) do
  local ids = redis.call('ZRANGEBYSCORE', delayed_key(queue), '-inf', time, 'LIMIT', 0, arg.limit)
  if ids[1] then table.insert(found, {queue, unpack(ids)}) end
end
return {'found', unpack(found)}
