#!lua
-- Reserve an idempotency key for a recut that is stored, or tell what it was reserved for before.
-- Keys:    idempotency
-- In:      id: of the job as which it is stored, fingerprint, created_at, request_id, expire_seconds: of the key,
--          gone_id or nil: a job that was purged, so that its key is free
-- Out:     reserved | repeated (the same was asked for under it) | conflict (it was used for something else);
--          then id, created_at and request_id of the first one
-- Events:  none
local earlier = redis.call('HMGET', key.idempotency, 'id', 'fingerprint', 'created_at', 'request_id')
if earlier[1] and earlier[1] ~= arg.gone_id then
  if earlier[2] ~= arg.fingerprint then return {'conflict'} end
  return {'repeated', earlier[1], earlier[3], earlier[4]}
end
redis.call('HSET', key.idempotency, 'id', arg.id, 'fingerprint', arg.fingerprint, 'created_at', arg.created_at,
  'request_id', arg.request_id)
redis.call('EXPIRE', key.idempotency, arg.expire_seconds)
return {'reserved', arg.id, arg.created_at, arg.request_id}
