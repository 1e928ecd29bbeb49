#!lua flags=allow-oom
-- Tell the state and the log of jobs, and have further events of them published: they are watched.
-- Keys:    none
-- In:      ids
-- Out:     watched, and for each job a list, empty without a record: state, log, attempt, started_at, ended_at, failure and
--          timings of its record, and if it is queued its place and the pixels before it
-- Events:  none
local found = {}
for _, id in ipairs(arg.ids) do
  local job = redis.call('HMGET', job_key(id), 'state', 'events', 'attempt', 'started_at', 'ended_at', 'failure', 'timings')
  if not job[1] then
    table.insert(found, {})
  else
    redis.call('HSET', job_key(id), 'watched', 1)
    -- A list of Redis ends at the first value that is missing.
    for index = 1, 7 do job[index] = job[index] or '' end
    for _, value in ipairs(job[1] == 'queued' and find_place(id) or {}) do table.insert(job, value) end
    table.insert(found, job)
  end
end
return {'watched', found}
