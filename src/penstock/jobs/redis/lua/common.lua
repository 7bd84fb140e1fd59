-- Stands before each script. All keys begin with the prefix KEYS[1], whose braces keep them on
-- one node. `me` is the process that asks. Numbers that must stay exact travel as text.
-- The time is Redis's own, so that no process's idea of it matters, unless one is told.
local prefix, me, now = KEYS[1], ARGV[1], ARGV[2]
if now == '' then
  local told = redis.call('TIME')
  now = string.format('%d.%06d', told[1], told[2])
end
local job_of = function(id) return prefix .. 'job:' .. id end
local log_of = function(id) return prefix .. 'log:' .. id end
local watch_of = function(id) return prefix .. 'watch:' .. id end
local queue_of = function(model) return prefix .. 'queue:' .. model end
local leases_of = function(model) return prefix .. 'leases:' .. model end
local idle_of = function(model) return prefix .. 'idle:' .. model end
local totals, due = prefix .. 'totals', prefix .. 'due'

local function alive(process)
  return redis.call('EXISTS', prefix .. 'alive:' .. process) == 1
end

-- Tell one process that there is something new about a job.
local function wake(process, id, what, number)
  if process and process ~= me and alive(process) then
    -- It expires where nobody reads it any more.
    local stream = prefix .. 'wake:' .. process
    redis.call('XADD', stream, 'MAXLEN', '~', 10000, '*', id, what .. ':' .. number)
    redis.call('PEXPIRE', stream, 60000)
  end
end

-- Leases that ended before this moment are over: now, or what the process that asks takes for now if
-- that is earlier, since then Redis's clock may have been set. Those who live renew theirs meanwhile.
local function earlier(lapsed)
  return tonumber(lapsed) < tonumber(now) and lapsed or now
end

-- Until when the writer of a job is taken for alive without another sign of life.
local function lease(id, model, lease_s)
  redis.call('ZADD', leases_of(model), string.format('%.6f', tonumber(now) + tonumber(lease_s)), id)
end

-- `me` writes a job from now on. The one before hears of it.
local function claim(id, model, lease_s)
  wake(redis.call('HGET', job_of(id), 'holder'), id, 'look', 0)
  redis.call('HINCRBY', job_of(id), 'epoch', 1)
  redis.call('HSET', job_of(id), 'holder', me)
  lease(id, model, lease_s)
end

-- The worker that has asked for the most more than there was, if any has, and how much that is.
local function idle_worker(model)
  local found = redis.call('ZREVRANGE', idle_of(model), 0, 0, 'WITHSCORES')
  while found[1] and not alive(found[1]) do
    redis.call('ZREM', idle_of(model), found[1])
    found = redis.call('ZREVRANGE', idle_of(model), 0, 0, 'WITHSCORES')
  end
  return found[1], tonumber(found[2] or '0')
end

-- One of them hears that there is something. One with score 0 has room, but had not enough for
-- whoever was first in line.
local function call_worker(model, answers)
  local worker = idle_worker(model)
  if not worker then return end
  if tonumber(redis.call('ZINCRBY', idle_of(model), -answers, worker)) <= 0 then
    redis.call('ZREM', idle_of(model), worker)
  end
  wake(worker, '-', 'work', 0)
end

-- Whoever is first in line now may fit where the one before did not, or where nobody was called.
local function call_next(model)
  local id = redis.call('LINDEX', queue_of(model), 0)
  local answers = id and redis.call('HGET', job_of(id), 'answers')
  if answers then call_worker(model, answers) end
end

-- How far the furthest reader in other processes is, or -1 without one. Those of the dead go.
local function furthest(id)
  local most, left, dead = -1, 0, 0
  local watching = redis.call('HGETALL', watch_of(id))
  for at = 1, #watching, 2 do
    local process, position = watching[at], watching[at + 1]
    if process ~= me then
      if not alive(process) then
        redis.call('HDEL', watch_of(id), process)
        if position ~= '' then dead = dead + 1 end
      elseif position ~= '' then
        most = math.max(most, tonumber(position))
      end
    elseif position ~= '' then
      left = 1
    end
  end
  if dead > 0 and most < 0 and left == 0 then
    redis.call('HSET', job_of(id), 'idle', now)
  end
  return most
end

local function snapshot(id)
  local others = furthest(id)
  local told = redis.call('HMGET', job_of(id),
    'last', 'acknowledged', 'epoch', 'terminal', 'refusal', 'idle')
  if not told[1] then return false end
  told[4] = told[4] or ''
  told[5] = told[5] or ''
  told[7] = tostring(others)
  return told
end

-- Jobs, running, bytes, and when the next one may be forgotten.
local function held()
  local told = redis.call('HMGET', totals, 'jobs', 'running', 'bytes')
  for at = 1, 3 do told[at] = told[at] or '0' end
  told[4] = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')[2] or ''
  return told
end

local function plan(id)
  local keep = redis.call('HGET', job_of(id), 'keep')
  redis.call('ZADD', due, string.format('%.6f', tonumber(now) + tonumber(keep)), id)
end

-- Its log stays for a moment, for those who have begun to read it.
local function forget(id, linger_ms)
  local job = redis.call('HMGET', job_of(id), 'reserved', 'owner', 'key', 'listed')
  redis.call('DEL', job_of(id), watch_of(id))
  redis.call('PEXPIRE', log_of(id), linger_ms)
  redis.call('ZREM', due, id)
  redis.call('HINCRBY', totals, 'jobs', -1)
  -- Of one whose data were deleted by hand nobody knows more.
  if not job[1] then return end
  if job[3] ~= '' then redis.call('HDEL', prefix .. 'keys:' .. job[2], job[3]) end
  if job[4] == '1' then redis.call('ZREM', prefix .. 'listed:' .. job[2], id) end
  redis.call('HINCRBY', totals, 'bytes', -job[1])
end

-- The next event of a job; `ends` is '1' where it is the last.
local function write(id, number, event, ends)
  if redis.pcall('XADD', log_of(id), number .. '-0', 'e', event).err then
    -- The log is not that of this job as it is now: a part of the data was put back from elsewhere.
    redis.call('DEL', log_of(id))
    redis.call('XADD', log_of(id), number .. '-0', 'e', event)
  end
  redis.call('HSET', job_of(id), 'last', number)
  if ends == '1' then
    redis.call('HSET', job_of(id), 'terminal', event, 'idle', now)
    redis.call('HINCRBY', totals, 'running', -1)
    redis.call('ZREM', leases_of(redis.call('HGET', job_of(id), 'model')), id)
    plan(id)
  end
  for _, process in ipairs(redis.call('HKEYS', watch_of(id))) do
    wake(process, id, ends == '1' and 'ended' or 'last', number)
  end
end
