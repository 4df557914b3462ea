-- A page of tasks that are not dead. ARGV: time, settings, part (1 to 4 streams, 6 delayed, 7 suspects, 8 given back,
-- 9 and 11 held), where, limit. Gives state, due, holder and fields of each, and where to go on.
local b, lib = 2, library()
local part, where, limit = tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local gen = call('HGET', KEYS[22], 'gen')
local tasks, following = {}, ''
if part <= 4 then
  local page = call('XRANGE', KEYS[b + part], where, '+', 'COUNT', limit)
  local holders = {}
  if #page > 0 and gen then
    local pending = try('XPENDING', KEYS[b + part], gen, page[1][1], page[#page][1], limit)
    if not pending.err then
      for _, one in ipairs(pending) do holders[one[1]] = one end
    end
  end
  for _, entry in ipairs(page) do
    local holder = holders[entry[1]]
    local fields = entry[2]
    if holder then
      local deadline = lib.began(holder[3]) + lib.lease_of(holder[2])
      tasks[#tasks + 1] = { 'l', string.format('%.3f', deadline), holder[2], fields }
    else
      tasks[#tasks + 1] = { 'r', '', '', fields }
    end
  end
  if #page >= limit then following = '(' .. page[#page][1] end
else
  local from = tonumber(where == '-' and 0 or where)
  local members = call('ZRANGE', KEYS[b + part], from, from + limit - 1)
  for _, member in ipairs(members) do
    local ref = member
    if part == 9 or part == 11 then
      local high, low = string.byte(member, 1, 2)
      ref = string.sub(member, 3 + high * 256 + low)
    end
    local packed = call('HGET', KEYS[b + 5], ref)
    if packed then
      local record = cmsgpack.unpack(packed)
      local fields = {}
      for name, value in pairs(record) do
        fields[#fields + 1] = name
        fields[#fields + 1] = value
      end
      local state, due = 'r', ''
      if part == 6 and tonumber(record.a) > now then state, due = 'd', record.a end
      if part == 9 or part == 11 then state = 'h' end
      tasks[#tasks + 1] = { state, due, '', fields }
    end
  end
  if #members >= limit then following = string.format('%.0f', from + limit) end
end
return { gen or '', string.format('%.3f', now), tasks, following }
