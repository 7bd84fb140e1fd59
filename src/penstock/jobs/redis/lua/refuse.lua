-- The first refusal counts. A job that waits in line has no writer: it ends here, with `error`,
-- which is written as the event that says so.
local _, now, id, error = unpack(ARGV)
local job = redis.call('HMGET', job_of(id), 'model', 'terminal', 'last', 'holder')
if job[1] and not job[2] then
  redis.call('HSETNX', job_of(id), 'refusal', error)
  if redis.call('LREM', queue_of(job[1]), 1, id) > 0 then
    write(id, string.format('%d', job[3] + 1), redis.call('HGET', job_of(id), 'refusal'), '1', now)
  else
    wake(job[4], id, 'look', 0)
  end
end
return snapshot(id, now)
