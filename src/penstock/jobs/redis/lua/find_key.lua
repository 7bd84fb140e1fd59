local _, _, owner, key = unpack(ARGV)
local id = redis.call('HGET', prefix .. 'keys:' .. owner, key)
if not id then return {} end
local job = redis.call('HMGET', job_of(id), 'order', 'reserved')
return {{id, job[1], job[2], snapshot(id)}}
