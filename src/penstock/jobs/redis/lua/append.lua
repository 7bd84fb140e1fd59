-- Several events, each with its job, epoch, number, and 1 where it is the end.
-- Asking again for what was written by the same epoch is harmless: the answer may have been lost.
local answers = {}
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
    write(id, number, event, ends)
    table.insert(answers, 1)
  end
end
return {held(), answers}
