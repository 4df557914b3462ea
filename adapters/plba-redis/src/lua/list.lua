-- A page of tasks that are not dead. ARGV: time, settings, part (1 to 4 streams, 6 delayed, 7 suspects, 8 given back,
-- 9 and 11 held), where, limit. Gives state, due, holder and fields of each, and where to go on.
local b, lib = 2, library()
local part, where, limit = tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local gen = call('HGET', KEYS[22], 'gen')
local tasks, following = {}, ''
-- A page may end within a pack: then the place to go on is that of its entry or record, a dot, and a member's number.
local start, member = string.match(where, '^([^.]+)%.(%d+)$')
where, member = start or where, tonumber(member or 1)

-- Adds the tasks of a record from a member on; gives the number of the one for which there was no room.
local function add(state, due, holder, entry, record)
  local members = not record.i and lib.members(record.d)
  local over = members and part <= 4 and lib.over(part, entry) or nil
  for k = member, members and #members or 1 do
    if lib.is_open(over, k) then
      if #tasks >= limit then return k end
      local fields = {}
      for name, value in pairs(members and { d = members[k], a = record.a } or record) do
        fields[#fields + 1] = name
        fields[#fields + 1] = value
      end
      tasks[#tasks + 1] = { state, due, holder, fields }
    end
  end
  member = 1
end

if part <= 4 then
  local page = call('XRANGE', KEYS[b + part], where, '+', 'COUNT', limit)
  local holders = {}
  if #page > 0 and gen then
    local pending = try('XPENDING', KEYS[b + part], gen, page[1][1], page[#page][1], limit)
    if not pending.err then
      for _, one in ipairs(pending) do holders[one[1]] = one end
    end
  end
  if #page >= limit then following = '(' .. page[#page][1] end
  for _, entry in ipairs(page) do
    local holder, left = holders[entry[1]], nil
    if holder then
      local deadline = lib.began(holder[3]) + lib.lease_of(holder[2])
      left = add('l', string.format('%.3f', deadline), holder[2], entry[1], lib.read(entry))
    else
      left = add('r', '', '', entry[1], lib.read(entry))
    end
    if left then
      following = entry[1] .. '.' .. left
      break
    end
  end
else
  local from = tonumber(where == '-' and 0 or where)
  local members = call('ZRANGE', KEYS[b + part], from, from + limit - 1)
  if #members >= limit then following = string.format('%.0f', from + limit) end
  for place, ref in ipairs(members) do
    if part == 9 or part == 11 then
      local high, low = string.byte(ref, 1, 2)
      ref = string.sub(ref, 3 + high * 256 + low)
    end
    local packed = call('HGET', KEYS[b + 5], ref)
    if packed then
      local record = cmsgpack.unpack(packed)
      local state, due = 'r', ''
      if part == 6 and tonumber(record.a) > now then state, due = 'd', record.a end
      if part == 9 or part == 11 then state = 'h' end
      local left = add(state, due, '', '', record)
      if left then
        following = string.format('%.0f.%d', from + place - 1, left)
        break
      end
    end
  end
end
return { gen or '', string.format('%.3f', now), tasks, following }
