-- The first refusal counts.
local _, now, id, error = unpack(ARGV)
if redis.call('EXISTS', job_of(id)) == 1 then
  redis.call('HSETNX', job_of(id), 'refusal', error)
  wake(redis.call('HGET', job_of(id), 'holder'), id, 'look', 0)
end
return snapshot(id, now)
