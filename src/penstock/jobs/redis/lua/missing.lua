-- Why there was no event of a job behind number `after`: the job is gone, its log does not have what
-- it should, the job ended before, or it will come later. Nothing where it is there by now.
local _, _, id, after = unpack(ARGV)
local job = redis.call('HMGET', job_of(id), 'last', 'terminal')
if not job[1] then return 'gone' end
if tonumber(job[1]) > tonumber(after) then
  local number = string.format('%d-0', after + 1)
  return #redis.call('XRANGE', log_of(id), number, number) == 0 and 'lost' or ''
end
return job[2] and 'ended' or 'later'
