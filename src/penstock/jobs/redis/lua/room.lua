-- Refused where there is no memory for anything new.
redis.call('SET', prefix .. 'alive:' .. me, '1', 'XX', 'KEEPTTL')
return 1
