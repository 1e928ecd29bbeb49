#!lua flags=no-writes
-- Tell what is known of the time that jobs of a model take, how many jobs run, and the time.
-- Keys:    service_times, leases
-- In:      nothing
-- Out:     measured, sums (JSON) or '', number of running jobs of all models, the time
-- Events:  none
return {'measured', redis.call('GET', key.service_times) or '', redis.call('ZCARD', key.leases), format_time(now())}
