-- The first refusal counts. A job that waits in line has no writer, and one whose writer is dead may
-- never have another: it ends here, with `error`, which is written as the event that says so.
local _, now, id, error = unpack(ARGV)
local job = redis.call('HMGET', job_of(id), 'model', 'terminal', 'last', 'holder')
if job[1] and not job[2] then
  redis.call('HSETNX', job_of(id), 'refusal', error)
  local left = job[4] and job[4] ~= me and not alive(job[4])
  if left then redis.call('HINCRBY', job_of(id), 'epoch', 1) end
  local waited = not left and redis.call('LREM', queue_of(job[1]), 1, id) > 0
  if waited then call_next(job[1]) end
  if left or waited then
    write(id, string.format('%d', job[3] + 1), redis.call('HGET', job_of(id), 'refusal'), '1', now)
  else
    wake(job[4], id, 'look', 0)
  end
end
return snapshot(id, now)
