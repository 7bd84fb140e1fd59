-- Open a tab, all that it takes at first or nothing. One that is there is gone on with.
local _, _, lapsed, lease_s, name, mark, account, streams, places, tokens, again = unpack(ARGV)
lease_s, places, tokens = tonumber(lease_s), tonumber(places), tonumber(tokens)
local limits = limits_at(13, tonumber(ARGV[12]))
local function needed(limit) return limit.tokens and tokens or 1 end

local leased = tonumber(redis.call('HGET', tab_of(name), 'leased') or nil)
redis.call('ZREMRANGEBYSCORE', places_of(account), '-inf', earlier(lapsed))
if not leased and again == '0' then
  local taken = redis.call('ZCARD', places_of(account))
  if streams ~= '0' and taken + places > tonumber(streams) then return {-1, 0, '0'} end
  for number, limit in ipairs(limits) do
    if free(limit) < needed(limit) then
      return {-1, number, tostring(wait_s(limit, needed(limit)))}
    end
  end
  for _, limit in ipairs(limits) do use(limit, needed(limit)) end
  redis.call('HSET', tab_of(name), 'day', math.floor(now_s / DAY_S), 'today', tokens)
end
leased = math.max(leased or 0, tokens)
redis.call('HSET', tab_of(name), 'mark', mark, 'leased', leased)
redis.call('HINCRBY', tab_of(name), 'openings', again == '0' and 1 or 2)
hold(name, account, places, lease_s)
return {leased, 0, '0'}
