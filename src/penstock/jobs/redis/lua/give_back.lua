-- A job that its writer will not go on with, for the next worker that has room. One that was refused
-- meanwhile ends here, as it would have in line.
local _, _, id, epoch = unpack(ARGV)
local job = redis.call('HMGET', job_of(id), 'epoch', 'terminal', 'model', 'answers', 'refusal', 'last')
if job[1] == epoch and not job[2] then
  redis.call('HINCRBY', job_of(id), 'epoch', 1)
  redis.call('HINCRBY', job_of(id), 'tries', -1)
  redis.call('HDEL', job_of(id), 'holder')
  redis.call('ZREM', leases_of(job[3]), id)
  if job[5] then
    write(id, string.format('%d', job[6] + 1), job[5], '1')
  else
    redis.call('LPUSH', queue_of(job[3]), id)
    redis.call('ZREM', idle_of(job[3]), me)
    call_worker(job[3], job[4])
  end
end
return 1
