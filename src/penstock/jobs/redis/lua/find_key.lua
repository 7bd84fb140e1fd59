local _, _, owner, key = unpack(ARGV)
local id = redis.call('HGET', prefix .. 'keys:' .. owner, key)
local job = id and redis.call('HMGET', job_of(id), 'order', 'reserved')
if not job or not job[1] then return {} end
return {{id, job[1], job[2], snapshot(id)}}
