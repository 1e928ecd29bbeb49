#!lua flags=allow-oom
-- Record the facts of an image that its worker has read, if the job is still this attempt's; its pixels count once for
-- the tenant.
-- Keys:    job
-- In:      attempt_name, image (JSON), pixels: of the image
-- Out:     recorded | lost
-- Events:  none
local job = redis.call('HMGET', key.job, 'state', 'attempt_name', 'request')
if job[1] ~= 'running' or job[2] ~= arg.attempt_name then return {'lost'} end
if redis.call('HSETNX', key.job, 'image', arg.image) == 1 then
  count_usage(cjson.decode(job[3]).tenant, {pixels = arg.pixels})
end
return {'recorded'}
