-- Keep a new job, or give the one that its owner's key stands for. It is put into the line of its
-- model, which is at most `line` long where no slot is known to be free; without `line` this process is to claim it within its lease.
local _, _, id, order, reserved, owner, key, listed, keep, most, bytes,
  model, line, lease_s, answers = unpack(ARGV)
local known = key ~= '' and redis.call('HGET', prefix .. 'keys:' .. owner, key)
known = known or id
if redis.call('EXISTS', job_of(known)) == 1 then
  local job = redis.call('HMGET', job_of(known), 'order', 'reserved')
  return {'known', held(), known, job[1], job[2], snapshot(known)}
end
local taken = redis.call('HMGET', totals, 'jobs', 'bytes')
if tonumber(taken[1] or '0') >= tonumber(most)
    or tonumber(taken[2] or '0') + tonumber(reserved) > tonumber(bytes) then
  return {'full', held()}
end
if line ~= '' and redis.call('LLEN', queue_of(model)) >= tonumber(line) then
  local _, free = idle_worker(model)
  if free <= 0 then return {'busy', held()} end
end
redis.call('HSET', job_of(id), 'model', model, 'order', order, 'reserved', reserved, 'owner', owner, 'key', key,
  'listed', listed, 'keep', keep, 'last', '0', 'acknowledged', '0', 'epoch', '0', 'idle', now, 'answers', answers)
if key ~= '' then redis.call('HSET', prefix .. 'keys:' .. owner, key, id) end
if listed == '1' then
  redis.call('ZADD', prefix .. 'listed:' .. owner, redis.call('INCR', prefix .. 'made'), id)
end
redis.call('HINCRBY', totals, 'jobs', 1)
redis.call('HINCRBY', totals, 'running', 1)
redis.call('HINCRBY', totals, 'bytes', reserved)
if line ~= '' then
  redis.call('RPUSH', queue_of(model), id)
  call_worker(model, answers)
else
  lease(id, model, lease_s)
end
return {'made', held(), id, order, reserved, snapshot(id)}
