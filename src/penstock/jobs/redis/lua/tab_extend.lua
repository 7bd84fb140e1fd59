-- Lease more for several tabs, up to a total for each, as much as there is. Asking again for the
-- same total is harmless: the answer may have been lost.
local at, answers = 3, {}
while at <= #ARGV do
  local name, mark, total, count = unpack(ARGV, at, at + 3)
  local limits = limits_at(at + 4, tonumber(count))
  local tab = redis.call('HMGET', tab_of(name), 'mark', 'leased', 'day', 'today')
  if tab[1] ~= mark then
    table.insert(answers, {-1, 0, '0'})
  else
    local leased = tonumber(tab[2])
    local granted, short, wait = math.max(total - leased, 0), 0, 0
    for number, limit in ipairs(limits) do
      if limit.tokens and free(limit) < granted then granted, short = free(limit), number end
    end
    granted = math.max(granted, 0)
    for _, limit in ipairs(limits) do
      if limit.tokens and granted > 0 then use(limit, granted) end
    end
    if short > 0 then wait = wait_s(limits[short], 1) end
    if granted > 0 then
      local day = math.floor(now_s / DAY_S)
      local today = granted + (tonumber(tab[3]) == day and tonumber(tab[4]) or 0)
      redis.call('HSET', tab_of(name), 'leased', leased + granted, 'day', day, 'today', today)
    end
    table.insert(answers, {leased + granted, short, tostring(wait)})
  end
  at = at + 4 + 3 * tonumber(count)
end
return answers
