-- What this process wants to know of jobs, and where its furthest readers are ('' for none).
local told = {}
for at = 3, #ARGV, 3 do
  local id, watching, position = unpack(ARGV, at, at + 2)
  local before = redis.call('HGET', watch_of(id), me)
  local job = redis.call('HMGET', job_of(id), 'holder', 'terminal')
  if redis.call('EXISTS', job_of(id)) == 1 then
    if watching == '1' then
      redis.call('HSET', watch_of(id), me, position)
    else
      redis.call('HDEL', watch_of(id), me)
    end
    if (before or '') ~= position then
      if position == '' then
        redis.call('HSET', job_of(id), 'idle', now)
        if job[2] then plan(id) end
      end
      wake(job[1], id, 'look', 0)
    end
  end
  table.insert(told, snapshot(id))
end
return {held(), told}
