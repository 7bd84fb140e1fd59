-- Tabs that are open hold their places on.
local now, lease_s = tonumber(ARGV[2]), tonumber(ARGV[3])
for at = 4, #ARGV, 4 do
  local name, mark, account, places = unpack(ARGV, at, at + 3)
  if redis.call('HGET', tab_of(name), 'mark') == mark then
    hold(name, account, tonumber(places), now, lease_s)
  end
end
return 1
