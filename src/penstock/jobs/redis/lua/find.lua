-- Jobs by their ids.
local found = {}
for at = 3, #ARGV do
  local id = ARGV[at]
  local job = redis.call('HMGET', job_of(id), 'order', 'reserved')
  if job[1] then table.insert(found, {id, job[1], job[2], snapshot(id)}) end
end
return found
