-- Renews leases. ARGV: time, settings, then groups: stream, holder, group, count, first, last, whether they are members of
-- packs; entries, or for each pack its entry, its size and a byte for the number of each member.
local b = 2
local lib, gen = library(), call('HGET', KEYS[22], 'gen')
local kept = {}
local cursor = 3
while cursor <= #ARGV do
  local s, consumer, group = tonumber(ARGV[cursor]), ARGV[cursor + 1], ARGV[cursor + 2]
  local count, packed = tonumber(ARGV[cursor + 3]), ARGV[cursor + 6] == '1'
  local from = cursor + 7
  cursor = from + count * (packed and 3 or 1)
  if group == gen then
    lib.lose_overdue(b, s, gen, consumer, ARGV[from - 3], ARGV[from - 2])
    if packed then
      for at = from, cursor - 1, 3 do
        local wanted = {}
        for k = 1, #ARGV[at + 2] do wanted[string.byte(ARGV[at + 2], k)] = true end
        for _, number in ipairs(lib.renew(s, gen, consumer, ARGV[at], wanted, tonumber(ARGV[at + 1]))) do
          kept[#kept + 1] = s .. ':' .. ARGV[at] .. '.' .. number
        end
      end
    else
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
  end
end
return { gen or '', string.format('%.3f', now), kept, lib.notes() }
