#!lua flags=allow-oom
-- Choose a job of a model, and claim it for a worker, with an attempt number and a lease.
-- The job with the earliest start in virtual time (shared/jobs/fairness.py) of the first queue is chosen; a queue comes
-- first once it was passed over as often as its bound says.
-- A suspect (a job that has stalled) is chosen only for a worker that may isolate one, and runs no other.
-- A worker that got no answer calls it with the same token again, and gets the job that was claimed for it.
-- Keys:    leases, passed_over, claim, isolated, virtual_times
-- In:      worker, lease_seconds, token: of this claim,
--          queues: those that may be claimed from, by priority; bounds: by queue, for those that must not starve;
--          may_isolate: whether the worker can run a suspect alone;
--          source: the queue whose message woke the worker, or nil, and message: one that may be put back into it
-- Out:     claimed, id, attempt, attempt_name, request (JSON), whether it is a suspect, whether it was recovered and whether
--          it is watched (1 or 0), time |
--          deadline_exceeded, the same: claimed to be expired | empty
-- Events:  the job, if it is watched
local time = now()
local counts = redis.call('HGETALL', key.passed_over)
local passed_over = {}
for index = 1, #counts, 2 do passed_over[counts[index]] = tonumber(counts[index + 1]) end

local function is_due(queue) return arg.bounds[queue] and (passed_over[queue] or 0) >= arg.bounds[queue] end

local function can_take_suspects()
  if not arg.may_isolate then return false end
  local other = redis.call('HGET', key.isolated, arg.worker)
  return not (other and redis.call('ZSCORE', key.leases, other))
end

-- The set that has the first job of a queue.
local function find_first_set(queue)
  local suspect = redis.call('ZRANGE', suspects_key(queue), 0, 0, 'WITHSCORES')
  if not suspect[1] or not can_take_suspects() then return queued_key(queue) end
  local queued = redis.call('ZRANGE', queued_key(queue), 0, 0, 'WITHSCORES')
  local is_first = not queued[1] or tonumber(suspect[2]) < tonumber(queued[2])
  return is_first and suspects_key(queue) or queued_key(queue)
end

local function take_first(queue)
  while true do
    local first = redis.call('ZPOPMIN', find_first_set(queue))
    if not first[1] then return nil end
    local job = redis.call('HMGET', job_key(first[1]), 'state', 'attempt', 'deadline_at', 'request', 'stalls',
      'events', 'watched', 'pixels')
    add_queued_pixels(queue, -(job[8] or 0))
    -- A record can be missing only if it was deleted by hand.
    if job[1] == 'queued' then
      return {id = first[1], queue = queue, place = first[2], attempt = job[2] + 1, deadline_at = job[3], request = job[4],
        is_suspect = job[5] ~= '0', events = job[6], watched = job[7]}
    end
  end
end

local function take_next()
  for _, first in ipairs({true, false}) do
    for _, queue in ipairs(arg.queues) do
      local job = (is_due(queue) or false) == first and take_first(queue)
      if job then return job end
    end
  end
end

local function count_passed_over(taken)
  for _, queue in ipairs(arg.queues) do
    if queue == taken then
      if passed_over[queue] then redis.call('HDEL', key.passed_over, queue) end
    elseif arg.bounds[queue] and redis.call('EXISTS', queued_key(queue), suspects_key(queue)) > 0 then
      redis.call('HINCRBY', key.passed_over, queue, 1)
    end
  end
end

-- Each job that can be claimed has a message.  The worker's own one is used up by a job of the same queue; for one of
-- another queue it is put back, and one of that queue is removed.  It is not put back for a suspect that this worker
-- cannot take now, because it would wake it again at once.
local function count_takeable(queue)
  return can_take_suspects() and count_claimable(queue) or redis.call('ZCARD', queued_key(queue))
end

local function settle_messages(taken)
  if arg.source and arg.source ~= taken
    and redis.call('LLEN', messages_key(arg.source)) < count_takeable(arg.source) then
    redis.call('RPUSH', messages_key(arg.source), arg.message)
  end
  if not taken then return end
  if arg.source ~= taken then redis.call('RPOP', messages_key(taken)) end
  trim_messages(taken)
end

-- Unique for ever: numbers start again when Redis loses its data, tokens do not.
local function name_attempt(attempt) return attempt .. '-' .. arg.token end

local function find_claimed()
  local id = redis.call('GET', key.claim)
  if not id then return nil end
  local job = redis.call('HMGET', job_key(id), 'state', 'attempt_name', 'attempt', 'deadline_at', 'request', 'stalls',
    'watched')
  if job[1] ~= 'running' or job[2] ~= name_attempt(job[3]) then return nil end
  return {id = id, attempt = job[3], deadline_at = job[4], request = job[5], is_suspect = job[6] ~= '0',
    watched = job[7]}
end

-- A job that was requeued has an earlier start than those that were claimed since, and sets no time back.
local function advance_virtual_time(job)
  local virtual_time = tonumber(redis.call('HGET', key.virtual_times, job.queue) or 0)
  if tonumber(job.place) > virtual_time then redis.call('HSET', key.virtual_times, job.queue, job.place) end
end

local function claim_next()
  local job = take_next()
  settle_messages(job and job.queue)
  if not job then return nil end
  count_passed_over(job.queue)
  advance_virtual_time(job)
  redis.call('HSET', job_key(job.id), 'state', 'running', 'attempt', job.attempt, 'place', job.place,
    'worker', arg.worker, 'started_at', time, 'attempt_name', name_attempt(job.attempt), 'exposed', job.is_suspect and 0 or 1,
    'events', add_event(job.events, 'running', '{"attempt":' .. job.attempt .. '}'))
  if job.watched then publish_event(job.id) end
  if job.is_suspect then redis.call('HSET', key.isolated, arg.worker, job.id) end
  redis.call('SET', key.claim, job.id, 'PX', math.ceil(2000 * arg.lease_seconds))
  return job
end

local job = find_claimed()
if job then settle_messages(nil) else job = claim_next() end
if not job then return {'empty'} end
redis.call('ZADD', key.leases, time + arg.lease_seconds, job.id)
local is_late = job.deadline_at ~= '' and time > tonumber(job.deadline_at)
return {is_late and 'deadline_exceeded' or 'claimed', job.id, job.attempt, name_attempt(job.attempt), job.request,
  job.is_suspect and 1 or 0, redis.call('HEXISTS', job_key(job.id), 'recovered'),
  job.watched and 1 or 0, format_time(time)}
