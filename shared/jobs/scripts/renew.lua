-- Prolong a lease, if the job is still this attempt's.
-- KEYS: job, leases     ARGV: id, attempt, lease seconds
local job = redis.call('HMGET', KEYS[1], 'state', 'attempt')
if job[1] ~= 'running' or job[2] ~= ARGV[2] then return 0 end
local time = redis.call('TIME')
redis.call('ZADD', KEYS[2], time[1] + time[2] / 1000000 + ARGV[3], ARGV[1])
return 1
