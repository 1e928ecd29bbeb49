-- Take back a job that was never published: as if it had not been created.
-- KEYS: job, queued set, idempotency key, index of the tenant     ARGV: id
local job = redis.call('HMGET', KEYS[1], 'attempt', 'work')
if job[1] ~= '0' then return 0 end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
if redis.call('HGET', KEYS[3], 'id') == ARGV[1] then redis.call('DEL', KEYS[3]) end
if job[2] and redis.call('GET', job[2]) == ARGV[1] then redis.call('DEL', job[2]) end
-- Whoever joined it meanwhile finds it gone and asks anew.
redis.call('PUBLISH', 'mm:events', ARGV[1])
return 1
