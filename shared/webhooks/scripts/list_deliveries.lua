#!lua flags=no-writes
-- List the latest deliveries of a target, or one of them.
-- Keys:    running
-- In:      target, limit, message: nil for the latest
-- Out:     listed, for each delivery: message, when it is due (empty: it runs now, or is over), whether it runs
--          now, and its record as names and values in turn
-- Events:  none
local found = {}
local messages = arg.message and {arg.message} or redis.call('ZREVRANGE', recent_key(arg.target), 0, arg.limit - 1)
for _, message in ipairs(messages) do
  local record = redis.call('HGETALL', delivery_key(arg.target, message))
  if record[1] then
    local due_at = redis.call('ZSCORE', pending_key(arg.target), message) or ''
    local is_running = redis.call('ZSCORE', key.running, arg.target .. '/' .. message) and 1 or 0
    table.insert(found, {message, due_at, is_running, unpack(record)})
  end
end
return {'listed', unpack(found)}
