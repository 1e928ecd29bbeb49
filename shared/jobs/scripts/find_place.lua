#!lua flags=no-writes
-- Tell where a queued job stands.
-- Keys:    none
-- In:      id
-- Out:     placed, its place and the pixels before it | none (it is not queued, or cannot be claimed yet)
-- Events:  none
if redis.call('HGET', job_key(arg.id), 'state') ~= 'queued' then return {'none'} end
local place = find_place(arg.id)
if not place then return {'none'} end
return {'placed', place[1], place[2]}
