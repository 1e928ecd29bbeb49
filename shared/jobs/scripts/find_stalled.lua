#!lua flags=no-writes
-- Find running jobs whose lease has expired.
-- Keys:    leases
-- In:      limit
-- Out:     found, time, id of each, those first whose lease expired first
-- Events:  none
local time = now()
local ids = redis.call('ZRANGEBYSCORE', key.leases, '-inf', time, 'LIMIT', 0, arg.limit)
return {'found', format_time(time), unpack(ids)}
