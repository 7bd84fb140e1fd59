-- Tabs that are open hold their places on.
local lease_s = tonumber(ARGV[3])
for at = 4, #ARGV, 4 do
  local name, mark, account, places = unpack(ARGV, at, at + 3)
  if redis.call('HGET', tab_of(name), 'mark') == mark then
    hold(name, account, tonumber(places), lease_s)
  end
end
return 1
