redis.call('DEL', prefix .. 'alive:' .. me, prefix .. 'wake:' .. me)
return 1
