local call, try = redis.call, redis.pcall
local now, real
do
  local t = call('TIME')
  real = t[1] * 1000 + t[2] / 1000
  now = ARGV[1] == '' and real or tonumber(ARGV[1])
end
