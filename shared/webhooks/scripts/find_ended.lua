#!lua flags=no-writes
-- Find jobs that have ended and whose deliveries are not planned yet.
-- Keys:    outbox
-- In:      limit
-- Out:     found, for each job its id and when it ended; those first that ended first
-- Events:  none
return {'found', unpack(redis.call('ZRANGE', key.outbox, 0, arg.limit - 1, 'WITHSCORES'))}
