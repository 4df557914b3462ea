-- Pauses or resumes a queue. ARGV: time, settings, until ('inf', milliseconds, or empty to resume).
local b = 2
call('SADD', KEYS[2], string.match(KEYS[22], ':q:(.*):c$'))
if ARGV[3] == '' then
  call('HDEL', KEYS[22], 'pause')
else
  call('HSET', KEYS[22], 'pause', ARGV[3])
end
library().ring(b)
return 1
