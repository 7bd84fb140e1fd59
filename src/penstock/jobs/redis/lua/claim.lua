-- Become the writer of a job.
local _, _, id, lease_s = unpack(ARGV)
local model = redis.call('HGET', job_of(id), 'model')
if not model then return false end
claim(id, model, lease_s)
return snapshot(id)
