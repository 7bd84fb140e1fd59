local _, _, id, number = unpack(ARGV)
local job = redis.call('HMGET', job_of(id), 'acknowledged', 'holder')
if job[1] and tonumber(number) > tonumber(job[1]) then
  redis.call('HSET', job_of(id), 'acknowledged', number)
  wake(job[2], id, 'look', 0)
end
return snapshot(id)
