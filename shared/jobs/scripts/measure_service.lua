#!lua flags=no-writes
-- Tell which jobs of a model ended last, how many jobs run, and the time.
-- Keys:    ended_work, leases
-- In:      nothing
-- Out:     measured, jobs (JSON of each, the last one first), number of running jobs of all models, the time
-- Events:  none
return {'measured', redis.call('LRANGE', key.ended_work, 0, -1), redis.call('ZCARD', key.leases), format_time(now())}
