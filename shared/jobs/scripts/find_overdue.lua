#!lua flags=no-writes
-- Find jobs that have not ended by their deadline; a running one a while after it, because its worker ends it between two
-- stages.
-- Keys:    deadlines
-- In:      limit, grace_seconds: for a running job
-- Out:     found, id of each, those first whose deadline passed first; of some there may be no record
-- Events:  none
local time = now()
local found = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', key.deadlines, '-inf', time, 'LIMIT', 0, arg.limit)) do
  local job = redis.call('HMGET', job_key(id), 'state', 'deadline_at')
  if job[1] ~= 'running' or tonumber(job[2]) + arg.grace_seconds <= time then table.insert(found, id) end
end
return {'found', unpack(found)}
