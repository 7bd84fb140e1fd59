-- Several events, each with its job, epoch, number, and 1 where it is the end.
-- Asking again for what was written by the same epoch is harmless: the answer may have been lost.
local now, answers = ARGV[2], {}
for at = 3, #ARGV, 5 do
  local id, epoch, number, ends, event = unpack(ARGV, at, at + 4)
  local job = redis.call('HMGET', job_of(id), 'epoch', 'last', 'terminal')
  if job[1] ~= epoch then
    table.insert(answers, 0)
  elseif tonumber(job[2]) >= tonumber(number) then
    table.insert(answers, 1)
  elseif job[3] or tonumber(job[2]) + 1 ~= tonumber(number) then
    table.insert(answers, 0)
  else
    redis.call('XADD', log_of(id), number .. '-0', 'e', event)
    redis.call('HSET', job_of(id), 'last', number)
    if ends == '1' then
      redis.call('HSET', job_of(id), 'terminal', event, 'idle', now)
      redis.call('HINCRBY', totals, 'running', -1)
      plan(id, now)
    end
    for _, process in ipairs(redis.call('HKEYS', watch_of(id))) do
      wake(process, id, ends == '1' and 'ended' or 'last', number)
    end
    table.insert(answers, 1)
  end
end
return {held(), answers}
