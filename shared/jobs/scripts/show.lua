#!lua flags=no-writes
-- Tell fields of the record of a job, and, if it is queued, its place.
-- Keys:    job
-- In:      id, fields: their names
-- Out:     shown, the values of the fields ('' for one that is missing), and of a queued job the place and the pixels
--          before it | unknown
-- Events:  none
local job = redis.call('HMGET', key.job, unpack(arg.fields))
if not job[1] then return {'unknown'} end
for index = 1, #arg.fields do job[index] = job[index] or '' end
local place = job[1] == 'queued' and find_place(arg.id)
return {'shown', job, place or {}}
