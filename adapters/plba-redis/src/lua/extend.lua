-- Renews leases. ARGV: time, settings, then groups: stream, holder, group, count, first, last, entries.
local b = 2
local lib, gen = library(), call('HGET', KEYS[22], 'gen')
local kept = {}
local cursor = 3
while cursor <= #ARGV do
  local s, consumer, group = tonumber(ARGV[cursor]), ARGV[cursor + 1], ARGV[cursor + 2]
  local count = tonumber(ARGV[cursor + 3])
  local from = cursor + 6
  if group == gen then
    lib.lose_overdue(b, s, gen, consumer, ARGV[cursor + 4], ARGV[cursor + 5])
    for first = from, from + count - 1, 1000 do
      local args = { 'XCLAIM', KEYS[b + s], gen, consumer, 0 }
      for k = first, math.min(first + 999, from + count - 1) do args[#args + 1] = ARGV[k] end
      args[#args + 1] = 'JUSTID'
      local claimed = try(unpack(args))
      if not claimed.err then
        lib.stamp(b, s, gen, consumer, claimed)
        for _, entry in ipairs(claimed) do kept[#kept + 1] = s .. ':' .. entry end
      end
    end
  end
  cursor = from + count
end
return { gen or '', string.format('%.3f', now), kept, lib.notes() }
