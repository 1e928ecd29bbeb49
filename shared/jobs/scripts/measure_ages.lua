#!lua flags=no-writes
-- Tell how old the oldest queued, running and stalled jobs are.
-- Keys:    leases, queues
-- In:      nothing
-- Out:     measured, seconds since the oldest queued job that can be claimed was created, since the oldest running job was
--          claimed, and since the first of the expired leases has expired; each is 0 without such a job
-- Events:  none
local time = now()
-- More jobs do not run at a time, and each costs a command.
local MAX_RUNNING = 2000
-- The oldest job of each tenant starts, in virtual time, among the first of its queue.
local FIRST_QUEUED = 100

-- Ids are version 7 UUIDs: they begin with the milliseconds.
local function read_creation_time(id) return tonumber(string.sub(id, 1, 12), 16) / 1000 end

local function find_oldest_queued()
  local oldest = time
  for _, queue in ipairs(redis.call('SMEMBERS', key.queues)) do
    for _, jobs in ipairs({queued_key(queue), suspects_key(queue)}) do
      for _, id in ipairs(redis.call('ZRANGE', jobs, 0, FIRST_QUEUED - 1)) do
        oldest = math.min(oldest, read_creation_time(id))
      end
    end
  end
  return oldest
end

local function find_oldest_running()
  local oldest = time
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key.leases, time, '+inf', 'LIMIT', 0, MAX_RUNNING)) do
    local started_at = redis.call('HGET', job_key(id), 'started_at')
    if started_at then oldest = math.min(oldest, tonumber(started_at)) end
  end
  return oldest
end

local function find_first_expiry()
  local first = redis.call('ZRANGEBYSCORE', key.leases, '-inf', time, 'WITHSCORES', 'LIMIT', 0, 1)
  return first[2] and tonumber(first[2]) or time
end

local function format_age(since) return string.format('%.3f', math.max(0, time - since)) end

return {'measured', format_age(find_oldest_queued()), format_age(find_oldest_running()), format_age(find_first_expiry())}
