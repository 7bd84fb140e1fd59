-- A sign of life, and of the jobs that this process writes; what is written for it is dropped where
-- it gives none. Answers with the time, too.
local lease_s = ARGV[3]
redis.call('SET', prefix .. 'alive:' .. me, '1', 'PX', math.floor(tonumber(lease_s) * 1000))
for at = 4, #ARGV do
  local job = redis.call('HMGET', job_of(ARGV[at]), 'holder', 'model', 'terminal')
  if job[1] == me and not job[3] then lease(ARGV[at], job[2], lease_s) end
end
return {held(), now}
