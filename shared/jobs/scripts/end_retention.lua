#!lua flags=allow-oom
-- End the retention of jobs, but of those that a caller had kept a moment ago: from then on none of them is kept.
-- Keys:    none
-- In:      ids: of the jobs, kept_mark and ended_mark: prefixes of keys, seconds: for which the end is remembered; nothing
--          if only a part of each job ends, as its image does
-- Out:     ended, and the ids of those whose retention has ended
-- Events:  none
local ended = {}
for _, id in ipairs(arg.ids) do
  if redis.call('EXISTS', stack_key(arg.kept_mark .. id)) == 0 then
    if arg.seconds then redis.call('SET', stack_key(arg.ended_mark .. id), '', 'EX', arg.seconds) end
    ended[#ended + 1] = id
  end
end
return {'ended', unpack(ended)}
