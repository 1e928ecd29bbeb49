#!lua flags=no-writes
-- Tell what can be claimed of a model's jobs, how many jobs its workers have completed so far, how much memory Redis uses,
-- and the time.
-- Keys:    leases, completed
-- In:      model, queues: those of the model
-- Out:     measured, number of completed jobs, number of running jobs of all models, bytes in use, maxmemory (0: no
--          limit), the time, and for each queue the number of its jobs that can be claimed
-- Events:  none
-- A user who may not call INFO gets no protection of the memory.
local memory = redis.pcall('INFO', 'memory')
local function read_bytes(name)
  return type(memory) == 'string' and tonumber(string.match(memory, '\n' .. name .. ':(%d+)')) or 0
end

local counts = {}
for _, queue in ipairs(arg.queues) do table.insert(counts, count_claimable(queue)) end
return {'measured', redis.call('HGET', key.completed, arg.model) or 0, redis.call('ZCARD', key.leases),
  read_bytes('used_memory'), read_bytes('maxmemory'), format_time(now()), unpack(counts)}
