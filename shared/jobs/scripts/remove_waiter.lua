-- Note that one of those who wait for an interactive job waits no more; the answer is how many still do.
-- KEYS: job
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
return redis.call('HINCRBY', KEYS[1], 'waiters', -1)
