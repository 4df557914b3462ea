-- Looks at pending entries of one queue. ARGV: time, settings, stream, cursor, limit. Gives how many leases had run out,
-- and the stream and cursor to go on with.
local b, lib = 2, library()
local gen = call('HGET', KEYS[22], 'gen')
local s, cursor, left, recovered = tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5]), 0
if not gen then return { '', string.format('%.3f', now), 0, 0, '', lib.notes() } end
local following, found = lib.pass(b, s, gen, cursor, left)
recovered = found
if not following then
  s = s + 1
  following = '-'
end
if s > 4 then
  s = 0
  if recovered < left then recovered = recovered + lib.fade(gen, left - recovered) end
  lib.mend(b, gen)
  lib.retain(b)
  lib.promote(b, 200)
end
return { gen, string.format('%.3f', now), recovered, s, following, lib.notes() }
