-- At most `count` answers' worth of jobs of a model: those whose writers give no sign of life, then
-- those in line. Handing one out and leasing it is one thing, so that none is ever between two workers.
-- One with more answers than are free keeps its turn, unless all `slots` of this process are.
local _, _, lapsed, lease_s, model, count, slots = unpack(ARGV)
local taken, left = {}, tonumber(count)
local function over(id)
  return redis.call('EXISTS', job_of(id)) == 0 or redis.call('HEXISTS', job_of(id), 'terminal') == 1
end
local function take(id)
  local answers = math.min(tonumber(redis.call('HGET', job_of(id), 'answers')), tonumber(slots))
  if answers > left then return false end
  claim(id, model, lease_s)
  local tries = redis.call('HINCRBY', job_of(id), 'tries', 1)
  local job = redis.call('HMGET', job_of(id), 'order', 'reserved')
  table.insert(taken, {id, job[1], job[2], snapshot(id), tries})
  left = left - answers
  return true
end
local function next_in_line()
  return left > 0 and redis.call('LINDEX', queue_of(model), 0)
end
local fits = true
for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases_of(model), '-inf', earlier(lapsed), 'LIMIT', 0, left)) do
  if over(id) then
    redis.call('ZREM', leases_of(model), id)
  else
    fits = fits and take(id)
  end
end
local id, moved = next_in_line(), false
while id and fits do
  fits = over(id) or take(id)
  if fits then moved = redis.call('LPOP', queue_of(model)) end
  id = next_in_line()
end
redis.call('ZREM', idle_of(model), me)
-- One that was called and has no room for anything hands the call on.
if moved or count == '0' then call_next(model) end
if left > 0 then redis.call('ZADD', idle_of(model), fits and left or 0, me) end
return taken
