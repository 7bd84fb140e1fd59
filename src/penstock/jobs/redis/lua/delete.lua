local id = ARGV[3]
if redis.call('HEXISTS', job_of(id), 'terminal') == 1 then forget(id, 60000) end
return held()
