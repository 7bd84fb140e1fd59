local _, _, owner, limit = unpack(ARGV)
local found = {}
for _, id in ipairs(redis.call('ZREVRANGE', prefix .. 'listed:' .. owner, 0, limit - 1)) do
  local job = redis.call('HMGET', job_of(id), 'order', 'reserved')
  if job[1] then table.insert(found, {id, job[1], job[2], snapshot(id)}) end
end
return found
