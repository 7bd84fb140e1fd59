-- The first refusal counts. A job that waits in line has no writer, and one whose writer is dead, or
-- which has neither, may never have another: it ends here, with `error`, which is written as the event that says so.
local _, _, id, error = unpack(ARGV)
local job = redis.call('HMGET', job_of(id), 'model', 'terminal', 'last', 'holder')
if job[1] and not job[2] then
  redis.call('HSETNX', job_of(id), 'refusal', error)
  local waits = redis.call('LREM', queue_of(job[1]), 1, id) > 0
  local left = not waits and (not job[4] or (job[4] ~= me and not alive(job[4])))
  if left then redis.call('HINCRBY', job_of(id), 'epoch', 1) end
  if waits then call_next(job[1]) end
  if waits or left then
    write(id, string.format('%d', job[3] + 1), redis.call('HGET', job_of(id), 'refusal'), '1')
  else
    wake(job[4], id, 'look', 0)
  end
end
return snapshot(id)
