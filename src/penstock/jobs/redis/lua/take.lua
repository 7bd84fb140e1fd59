-- Jobs of some models, at most `count`: those whose writers give no sign of life, then those in line.
-- Handing one out and leasing it is one thing, so that none is ever between two workers.
local _, now, lapsed, lease_s, count = unpack(ARGV)
local taken = {}
local function take(id, model)
  if redis.call('EXISTS', job_of(id)) == 0 or redis.call('HEXISTS', job_of(id), 'terminal') == 1 then
    redis.call('ZREM', leases_of(model), id)
    return
  end
  claim(id, model, now, lease_s)
  local job = redis.call('HMGET', job_of(id), 'order', 'reserved')
  table.insert(taken, {id, job[1], job[2], snapshot(id, now)})
end
for at = 6, #ARGV do
  local model = ARGV[at]
  local left = tonumber(count) - #taken
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases_of(model), '-inf', lapsed, 'LIMIT', 0, left)) do
    take(id, model)
  end
  local id = #taken < tonumber(count) and redis.call('LPOP', queue_of(model))
  while id do
    take(id, model)
    id = #taken < tonumber(count) and redis.call('LPOP', queue_of(model))
  end
  if #taken < tonumber(count) then
    redis.call('SADD', idle_of(model), me)
  else
    redis.call('SREM', idle_of(model), me)
  end
end
return taken
