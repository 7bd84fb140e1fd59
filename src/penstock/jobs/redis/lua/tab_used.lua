-- What is used under one limit, and how many places its account has.
local now, lapsed = tonumber(ARGV[2]), ARGV[3]
local places = redis.call('ZCOUNT', places_of(ARGV[4]), '(' .. lapsed, '+inf')
local limit = limits_at(4, 1)[1]
return {tostring(used_by(limit, now)), places}
