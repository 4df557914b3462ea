-- Packs: plain tasks of the class `normal` that were published together are kept, handed out and leased as one entry, and
-- ended one by one. A pack's data: 2, the number of its members (1 byte), and of each its length (4 bytes, the greater
-- first) and its data. Members are told apart by their numbers, from 1 on.
-- The key `over`: of packs in hand, which members are over, as a row of 0 and 1. The key `fading`: members whose lease was
-- not renewed when others of their pack were, by when it ends. The counts `px` (of packs that wait) and `hx` (of those in
-- hand) are how many tasks there are beyond the number of entries and records.
local function packs(M)
  -- Only a script's first queue has anything in hand.
  local b = 2
  local OVER, FADING, COUNTS = KEYS[24], KEYS[25], KEYS[22]

  -- How many tasks a record's data are.
  function M.weight(data)
    local version, count = string.byte(data, 1, 2)
    return version == 2 and count and count > 0 and count or 1
  end

  -- The members' data; nil when it is no pack, or a damaged one.
  function M.members(data)
    local version, count = string.byte(data, 1, 2)
    if version ~= 2 or not count or count == 0 then return nil end
    local members, at = {}, 3
    for k = 1, count do
      if #data < at + 3 then return nil end
      local last = at + 3 + struct.unpack('>I4', data, at)
      if last > #data then return nil end
      members[k] = string.sub(data, at + 4, last)
      at = last + 1
    end
    return at == #data + 1 and members or nil
  end

  local function join(members, first, last)
    if first == last then return members[first] end
    local parts = { string.char(2, last - first + 1) }
    for k = first, last do
      parts[#parts + 1] = struct.pack('>I4', #members[k])
      parts[#parts + 1] = members[k]
    end
    return table.concat(parts)
  end

  local function field(s, entry) return s .. ':' .. entry end

  -- Which members of an entry are over; nil when none is.
  function M.over(s, entry) return call('HGET', OVER, field(s, entry)) or nil end

  function M.is_open(over, k) return not over or string.sub(over, k, k) ~= '1' end

  -- How many members of an entry are still to be carried out.
  function M.undone(s, entry, data)
    local weight = M.weight(data)
    if weight == 1 then return 1, nil end
    local over = M.over(s, entry)
    if over then
      local _, done = string.gsub(over, '1', '')
      weight = weight - done
    end
    return weight, over
  end

  -- The record of one member.
  local function single(record, members, k, entry) return M.vet({ d = members[k], a = record.a }, entry .. '.' .. k) end

  -- What was withdrawn, or had been handed out before its group was lost, as records of single tasks.
  function M.singles(s, entry, record)
    local members = not record.i and M.members(record.d)
    if not members then return { record } end
    local over = M.over(s, entry)
    if over then call('HDEL', OVER, field(s, entry)) end
    local records = {}
    for k = 1, #members do
      if M.is_open(over, k) then records[#records + 1] = single(record, members, k, entry) end
    end
    call('HINCRBY', COUNTS, 'hx', 1 - #records)
    return records
  end

  -- The same as one record: a pack of those that are left.
  function M.rest(s, entry, record)
    local over = M.over(s, entry)
    local members = over and not record.i and M.members(record.d)
    if not members then return record end
    call('HDEL', OVER, field(s, entry))
    local left = {}
    for k = 1, #members do
      if M.is_open(over, k) then left[#left + 1] = members[k] end
    end
    return { d = join(left, 1, #left), a = record.a }
  end

  -- Takes one member of a pack of `size` from its holder; nil when its lease is not held, false when a foreign hand
  -- removed the entry.
  function M.withdraw_member(s, gen, entry, k, size)
    local key = KEYS[b + s]
    local held = try('XPENDING', key, gen, entry, entry, 1)
    if held.err or #held == 0 then return nil end
    local over = M.over(s, entry)
    if not M.is_open(over, k) then return nil end
    local found = call('XRANGE', key, entry, entry)[1]
    local record = found and M.read(found)
    local members = record and not record.i and M.members(record.d)
    if not members or not members[k] then
      local _, done = string.gsub(over or '', '1', '')
      call('XACK', key, gen, entry)
      call('HDEL', OVER, field(s, entry))
      call('HINCRBY', COUNTS, 'hx', 1 - (size - done))
      M.vanished = M.vanished + 1
      return false
    end
    over = over or string.rep('0', #members)
    over = string.sub(over, 1, k - 1) .. '1' .. string.sub(over, k + 1)
    if string.find(over, '0', 1, true) then
      call('HSET', OVER, field(s, entry), over)
      call('HINCRBY', COUNTS, 'hx', -1)
    else
      call('XACK', key, gen, entry)
      call('XDEL', key, entry)
      call('HDEL', OVER, field(s, entry))
    end
    return single(record, members, k, entry)
  end

  -- Handing out -----------------------------------------------------------------------------------------------------

  -- Parts a record after `room` of its tasks; the rest comes next.
  local function part(record, room)
    local members = M.members(record.d)
    call('HINCRBY', COUNTS, 'px', -1)
    M.place(b, { d = join(members, room + 1, #members) }, math.min(now, tonumber(record.a)), true)
    return { d = join(members, 1, room), a = record.a }
  end

  -- Of records that were to be handed out next, those for which there is room; the others come next.
  function M.fit(records, room)
    local fitting, count = {}, 0
    for _, record in ipairs(records) do
      local weight = record.i and 1 or M.weight(record.d)
      if room <= 0 then break end
      count = count + 1
      fitting[count] = record
      room = room - weight
    end
    for k = #records, count + 1, -1 do M.place(b, records[k], math.min(now, tonumber(records[k].a)), true) end
    if room < 0 then
      local last = fitting[count]
      fitting[count] = part(last, M.weight(last.d) + room)
    end
    return fitting
  end

  -- The k-th of the entries just read is more than there is room for: it is taken out of the stream, and what follows it
  -- was never read. Gives what there is room for.
  function M.cut(s, gen, entries, k, room)
    local key = KEYS[b + s]
    local entry = entries[k][1]
    local last, surplus = entries[k - 1] and entries[k - 1][1], { 'XACK', key, gen }
    local fitting = {}
    if room > 0 then
      local record = M.rest(s, entry, M.read(entries[k]))
      call('XACK', key, gen, entry)
      call('XDEL', key, entry)
      fitting[1] = part(record, room)
      last, k = entry, k + 1
    end
    for n = k, #entries do surplus[#surplus + 1] = entries[n][1] end
    if #surplus > 3 then
      call(unpack(surplus))
      call('XGROUP', 'SETID', key, gen, last)
    end
    return fitting
  end

  -- Leases of members ----------------------------------------------------------------------------------------------

  local function fading_member(s, entry, k) return s .. ':' .. entry .. '.' .. k end

  local fades
  local function anything_fading()
    if fades == nil then fades = call('EXISTS', FADING) == 1 end
    return fades
  end

  -- Loses a member whose own lease has run out.
  function M.lose_faded(s, gen, entry, k, size)
    if not anything_fading() then return false end
    local member = fading_member(s, entry, k)
    local ends = call('ZSCORE', FADING, member)
    if not ends or tonumber(ends) > now then return false end
    call('ZREM', FADING, member)
    local record = M.withdraw_member(s, gen, entry, k, size)
    if record then M.lost_with(b, record) end
    return record
  end

  -- Loses members whose own leases have run out, at most so many; gives how many.
  function M.fade(gen, limit)
    if not anything_fading() then return 0 end
    local count = 0
    for _, member in ipairs(call('ZRANGEBYSCORE', FADING, '-inf', string.format('%.3f', now), 'LIMIT', 0, limit)) do
      local s, entry, k = string.match(member, '^(%d):([^.]+)%.(%d+)$')
      if M.lose_faded(tonumber(s), gen, entry, tonumber(k), 1) then count = count + 1 end
    end
    return count
  end

  -- Renews the leases of some members of a pack; gives which of them were held.
  function M.renew(s, gen, consumer, entry, wanted, size)
    local key, kept = KEYS[b + s], {}
    for k in pairs(wanted) do M.lose_faded(s, gen, entry, k, size) end
    local held = try('XPENDING', key, gen, entry, entry, 1)
    if held.err or #held == 0 then return kept end
    local ends = M.began(held[1][3]) + M.lease_of(held[1][2])
    local claimed = try('XCLAIM', key, gen, consumer, 0, entry, 'JUSTID')
    if claimed.err or #claimed == 0 then return kept end
    M.stamp(b, s, gen, consumer, claimed)
    local over = M.over(s, entry)
    for k = 1, size do
      if M.is_open(over, k) then
        if wanted[k] then
          kept[#kept + 1] = k
          if anything_fading() then call('ZREM', FADING, fading_member(s, entry, k)) end
        else
          fades = true
          call('ZADD', FADING, 'NX', string.format('%.3f', ends), fading_member(s, entry, k))
        end
      end
    end
    return kept
  end
end
