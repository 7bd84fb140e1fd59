-- What is used under one limit, and how many places its account has.
local places = redis.call('ZCOUNT', places_of(ARGV[4]), '(' .. earlier(ARGV[3]), '+inf')
local limit = limits_at(4, 1)[1]
return {tostring(used_by(limit)), places}
