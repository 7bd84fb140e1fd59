-- Become the writer of a job.
local _, now, id = unpack(ARGV)
if redis.call('EXISTS', job_of(id)) == 0 then return false end
wake(redis.call('HGET', job_of(id), 'holder'), id, 'look', 0)
redis.call('HINCRBY', job_of(id), 'epoch', 1)
redis.call('HSET', job_of(id), 'holder', me)
return snapshot(id, now)
