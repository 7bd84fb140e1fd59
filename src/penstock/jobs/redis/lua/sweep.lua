-- Forget what has ended and was not read for long enough; what is read is looked at again later.
local forgotten = 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, 200)) do
  local mine = redis.call('HGET', watch_of(id), me)
  local read = (mine and mine ~= '') or furthest(id) >= 0
  if read and redis.call('EXISTS', job_of(id)) == 1 then
    plan(id)
  else
    forget(id, 0)
    forgotten = forgotten + 1
  end
end
return {held(), forgotten}
