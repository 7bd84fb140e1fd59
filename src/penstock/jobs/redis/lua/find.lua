-- Jobs by their ids.
local now, found = ARGV[2], {}
for at = 3, #ARGV do
  local id = ARGV[at]
  local job = redis.call('HMGET', job_of(id), 'order', 'reserved')
  if job[1] then table.insert(found, {id, job[1], job[2], snapshot(id, now)}) end
end
return found
