-- A sign of life; what is written for this process is dropped where it gives none.
local life_ms = ARGV[3]
redis.call('SET', prefix .. 'alive:' .. me, '1', 'PX', life_ms)
return held()
