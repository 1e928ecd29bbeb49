#!lua flags=allow-oom
-- Count an upload of a tenant until it expires, unless the tenant has too many or too large ones open.
-- The bytes of an upload are by its id; their sum is under a name that no upload has.
-- Keys:    uploads, upload_bytes
-- In:      id, bytes: most that the file may have, expires_at: of the upload, max_uploads and max_bytes: of the tenant,
--          seconds: for which an upload lives
-- Out:     opened | too_many, when one expires | too_large, when one expires
-- Events:  none
for _, id in ipairs(redis.call('ZRANGEBYSCORE', key.uploads, '-inf', now())) do
  redis.call('HINCRBY', key.upload_bytes, '*', -(redis.call('HGET', key.upload_bytes, id) or 0))
  redis.call('HDEL', key.upload_bytes, id)
  redis.call('ZREM', key.uploads, id)
end
-- An upload whose file is sent counts already; a larger file than was said counts by its size.
local before = tonumber(redis.call('HGET', key.upload_bytes, arg.id) or 0)
local more = math.max(0, arg.bytes - before)
local first = redis.call('ZRANGE', key.uploads, 0, 0, 'WITHSCORES')[2] or arg.expires_at
if before == 0 and redis.call('ZCARD', key.uploads) >= arg.max_uploads then return {'too_many', first} end
if tonumber(redis.call('HGET', key.upload_bytes, '*') or 0) + more > arg.max_bytes then return {'too_large', first} end
redis.call('HINCRBY', key.upload_bytes, '*', more)
redis.call('HSET', key.upload_bytes, arg.id, before + more)
redis.call('ZADD', key.uploads, arg.expires_at, arg.id)
redis.call('EXPIRE', key.upload_bytes, arg.seconds)
redis.call('EXPIRE', key.uploads, arg.seconds)
return {'opened'}
