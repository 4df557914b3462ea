-- Brings back what gate.lua put away. KEYS: normal, counts, where the stream was put.
if redis.call('EXISTS', KEYS[3]) == 1 then
  redis.call('RENAME', KEYS[3], KEYS[1])
  redis.call('HDEL', KEYS[2], 'away')
end
return 1
