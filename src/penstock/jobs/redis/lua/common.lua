-- Stands before each script. All keys begin with the prefix KEYS[1], whose braces keep them on
-- one node. `me` is the process that asks. Numbers that must stay exact travel as text.
local prefix, me = KEYS[1], ARGV[1]
local job_of = function(id) return prefix .. 'job:' .. id end
local log_of = function(id) return prefix .. 'log:' .. id end
local watch_of = function(id) return prefix .. 'watch:' .. id end
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

-- How far the furthest reader in other processes is, or -1 without one. Those of the dead go.
local function furthest(id, now)
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

local function snapshot(id, now)
  local others = furthest(id, now)
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

local function plan(id, now)
  local keep = redis.call('HGET', job_of(id), 'keep')
  redis.call('ZADD', due, string.format('%.6f', tonumber(now) + tonumber(keep)), id)
end

-- Its log stays for a moment, for those who have begun to read it.
local function forget(id, linger_ms)
  local job = redis.call('HMGET', job_of(id), 'reserved', 'owner', 'key', 'listed')
  if not job[1] then return end
  redis.call('DEL', job_of(id), watch_of(id))
  redis.call('PEXPIRE', log_of(id), linger_ms)
  redis.call('ZREM', due, id)
  if job[3] ~= '' then redis.call('HDEL', prefix .. 'keys:' .. job[2], job[3]) end
  if job[4] == '1' then redis.call('ZREM', prefix .. 'listed:' .. job[2], id) end
  redis.call('HINCRBY', totals, 'jobs', -1)
  redis.call('HINCRBY', totals, 'bytes', -job[1])
end
