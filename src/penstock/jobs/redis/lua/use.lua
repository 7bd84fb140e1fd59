-- Stands before each script about tabs: what is used under limits, as `access/meters.py` counts it.
local DAY_S, LEFT_MS = 86400, 3600000
local now_s = tonumber(now)
local tab_of = function(name) return prefix .. 'tab:' .. name end
local places_of = function(account) return prefix .. 'places:' .. account end

-- Limits from ARGV, `count` times an account, a unit and an amount.
local function limits_at(at, count)
  local limits = {}
  for _ = 1, count do
    local account, unit, amount = unpack(ARGV, at, at + 2)
    table.insert(limits, {
      key = prefix .. 'use:' .. unit .. ':' .. amount .. ':' .. account,
      amount = tonumber(amount),
      daily = unit == 'tokens_per_day',
      tokens = unit ~= 'requests_per_minute',
    })
    at = at + 3
  end
  return limits
end

-- What is used by now, and the day of which that is so, or else the moment.
local function used_by(limit)
  local told = redis.call('HMGET', limit.key, 'used', 'at')
  local used, at = tonumber(told[1] or '0'), tonumber(told[2] or '0')
  if limit.daily then
    local day = math.floor(now_s / DAY_S)
    if day > at then return 0, day end
    return used, at
  end
  return math.max(used - math.max(now_s - at, 0) * limit.amount / 60, 0), math.max(now_s, at)
end

local function free(limit)
  return math.floor(limit.amount - used_by(limit) + 1e-9)
end

-- Until `wanted` are left, in seconds.
local function wait_s(limit, wanted)
  local used, at = used_by(limit)
  if limit.daily then return (at + 1) * DAY_S - now_s end
  return math.max(wanted - (limit.amount - used), 0) * 60 / limit.amount
end

-- `tokens` more are used, or fewer where that is negative. Whatever is not touched for long enough
-- to count for nothing is forgotten.
local function use(limit, tokens)
  local used, at = used_by(limit)
  redis.call('HSET', limit.key,
    'used', string.format('%.9f', math.max(used + tokens, 0)), 'at', string.format('%.6f', at))
  redis.call('PEXPIRE', limit.key, limit.daily and 90000000 or 120000)
end

local function hold(name, account, places, lease_s)
  redis.call('PEXPIRE', tab_of(name), LEFT_MS)
  local until_s = string.format('%.6f', now_s + lease_s)
  for place = 1, places do
    redis.call('ZADD', places_of(account), until_s, place .. ':' .. name)
  end
  redis.call('PEXPIRE', places_of(account), LEFT_MS)
end
