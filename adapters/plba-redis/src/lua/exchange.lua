-- Ends deliveries and takes what is ready.
-- ARGV: time, settings, consumer, most, flags ('s' sweep, 'l' limits, 'k' rates of keys), groups of plain acks, each: stream,
-- holder, group, count of entries, of tasks and of ids, bytes, first, last, sizes (of packs, a byte each; else nothing), which
-- members (of one pack, if not all; a byte each), entries, task ids; then the other endings: stream, holder, group, entry (of a pack's member: entry.number/size), verb and
-- what it takes. Positions of what is lost are those of tasks.
local b, ck = 2, KEYS[22]
local control = call('HMGET', ck, 'gen', 'pause', 'lim', 'keyrule', 'special', 'away')
local gen, pause, limited = control[1], control[2], control[3]
if control[6] then library().bring_back(b) end
local lost, position, cursor = {}, 0, 7
local ready = false

-- Whether members of packs may differ in how far they are.
local differ = call('EXISTS', KEYS[24], KEYS[25]) > 0

-- Whether nothing is over of whole packs, and nothing of them has a lease of its own.
local function untouched(s, from, to)
  if call('EXISTS', KEYS[25]) == 1 then return false end
  local fields = {}
  for k = from, to do fields[#fields + 1] = s .. ':' .. ARGV[k] end
  local over = call('HMGET', KEYS[24], unpack(fields))
  for k = 1, #fields do
    if over[k] then return false end
  end
  return true
end

-- Acks members one by one; gives how many, and their bytes.
local function ack_members(s, entry, size, first, last, number, at)
  local lib, held, bytes = library(), 0, 0
  for k = first, last do
    local member = number(k)
    lib.lose_faded(s, gen, entry, member, size)
    local record = lib.withdraw_member(s, gen, entry, member, size)
    if record then
      held, bytes = held + 1, bytes + #record.d
      if lib.named(record) then call('SREM', KEYS[b + 19], lib.id(record)) end
    else
      lost[#lost + 1] = at + k - first
    end
  end
  return held, bytes
end

-- Acks some members of one pack, as what is over of it and who has it allow.
local function ack_part(s, entry, size, members, bytes, ids, named)
  local key, field = KEYS[b + s], s .. ':' .. entry
  local pending = try('XPENDING', key, gen, entry, entry, 1)
  local over = call('HGET', KEYS[24], field) or string.rep('0', size)
  local held = not pending.err and #pending == 1 and call('EXISTS', KEYS[25]) == 0
  for k = 1, #members do
    local number = string.byte(members, k)
    if string.sub(over, number, number) ~= '0' then held = false end
    over = string.sub(over, 1, number - 1) .. '1' .. string.sub(over, number + 1)
  end
  if not held then
    return ack_members(s, entry, size, 1, #members, function(k) return string.byte(members, k) end, position)
  end
  if string.find(over, '0', 1, true) then
    call('HSET', KEYS[24], field, over)
    call('HINCRBY', ck, 'hx', -#members)
  else
    call('XACK', key, gen, entry)
    call('XDEL', key, entry)
    call('HDEL', KEYS[24], field)
    call('HINCRBY', ck, 'hx', 1 - #members)
  end
  if named > 0 then call('SREM', KEYS[b + 19], unpack(ARGV, ids, ids + named - 1)) end
  return #members, bytes
end

-- Of entries some of which were no longer in hand. What was is still in the stream, or a foreign hand removed it; what was
-- lost is not.
local function ack_rest(s, count, sizes, named, from)
  local lib, at, held, bytes = library(), position, 0, 0
  for e = 1, count do
    local entry, size = ARGV[from + e - 1], sizes == '' and 1 or string.byte(sizes, e)
    local found = call('XRANGE', KEYS[b + s], entry, entry)[1]
    if found then
      call('XDEL', KEYS[b + s], entry)
      for _, record in ipairs(lib.singles(s, entry, lib.read(found))) do
        held, bytes = held + 1, bytes + #record.d
        if named then call('SREM', KEYS[b + 19], lib.id(record)) end
      end
    else
      for k = 0, size - 1 do lost[#lost + 1] = at + k end
    end
    at = at + size
  end
  return held, bytes
end

for _ = 1, tonumber(ARGV[6]) do
  local s, consumer, group = tonumber(ARGV[cursor]), ARGV[cursor + 1], ARGV[cursor + 2]
  local count, tasks, named = tonumber(ARGV[cursor + 3]), tonumber(ARGV[cursor + 4]), tonumber(ARGV[cursor + 5])
  local bytes, first, last, sizes, members =
    ARGV[cursor + 6], ARGV[cursor + 7], ARGV[cursor + 8], ARGV[cursor + 9], ARGV[cursor + 10]
  local from = cursor + 11
  local to = from + count - 1
  local key = KEYS[b + s]
  cursor = to + 1 + named
  if group ~= gen then
    for k = 1, tasks do lost[#lost + 1] = position + k - 1 end
  else
    local lease = ARGV[1] == '' and string.match(consumer, '^%d+') or library().least_idle(library().lease_of(consumer))
    local overdue = try('XPENDING', key, gen, 'IDLE', lease, first, last, 1, consumer)
    if overdue.err or #overdue > 0 then library().lose_overdue(b, s, gen, consumer, first, last) end
    local held
    if members ~= '' then
      held, bytes = ack_part(s, first, string.byte(sizes), members, bytes, to + 1, named)
    elseif differ and sizes ~= '' and not untouched(s, from, to) then
      local at = position
      held, bytes = 0, 0
      for e = 1, count do
        local size = string.byte(sizes, e)
        local some, more = ack_members(s, ARGV[from + e - 1], size, 1, size, function(k) return k end, at)
        held, bytes, at = held + some, bytes + more, at + size
      end
    elseif call('XACK', key, gen, unpack(ARGV, from, to)) == count then
      call('XDEL', key, unpack(ARGV, from, to))
      if named > 0 then call('SREM', KEYS[b + 19], unpack(ARGV, to + 1, to + named)) end
      if tasks > count then call('HINCRBY', ck, 'hx', count - tasks) end
      held = tasks
    else
      held, bytes = ack_rest(s, count, sizes, named > 0, from)
    end
    if held > 0 then
      call('HINCRBY', ck, 'bytes', -bytes)
      call('HINCRBY', ck, 'acked', held)
    end
  end
  position = position + tasks
end

if cursor <= #ARGV then
  local lib = library()
  while cursor <= #ARGV do
    local s, consumer, group = tonumber(ARGV[cursor]), ARGV[cursor + 1], ARGV[cursor + 2]
    local entry, verb = ARGV[cursor + 3], ARGV[cursor + 4]
    cursor = cursor + 5
    local record
    if group == gen then
      local pack, number, size = string.match(entry, '^([^.]+)%.(%d+)/(%d+)$')
      lib.lose_overdue(b, s, gen, consumer, pack or entry, pack or entry)
      if pack then
        number, size = tonumber(number), tonumber(size)
        lib.lose_faded(s, gen, pack, number, size)
        record = lib.withdraw_member(s, gen, pack, number, size)
      else
        record = lib.withdraw(b, s, gen, entry)
      end
    end
    if not record then lost[#lost + 1] = position end
    position = position + 1
    local deliveries, attempts, crashes
    if record then deliveries, attempts, crashes = lib.counts(record) end
    if verb == 'a' then
      local follow_ups = tonumber(ARGV[cursor])
      cursor = cursor + 1
      if record then
        if lib.named(record) then call('SREM', KEYS[b + 19], lib.id(record)) end
        call('HINCRBY', ck, 'bytes', -#record.d)
        call('HINCRBY', ck, 'acked', 1)
        lib.leave(b, record)
        for k = 0, follow_ups - 1 do
          local at = cursor + k * 4
          lib.publish(2 + 23 * tonumber(ARGV[at]), ARGV[at + 1], tonumber(ARGV[at + 2]), ARGV[at + 3])
        end
      end
      cursor = cursor + follow_ups * 4
    elseif verb == 'n' then
      if record then
        lib.count(record, deliveries + 1, attempts + 1, crashes)
        lib.remember(record, 'f', ARGV[cursor + 1])
        call('HINCRBY', ck, 'failed', 1)
        lib.place(b, record, now + tonumber(ARGV[cursor]))
      end
      cursor = cursor + 2
    elseif verb == 'r' then
      if record then
        lib.count(record, deliveries + 1, attempts, crashes)
        local delay = tonumber(ARGV[cursor])
        lib.place(b, record, now + delay, delay == 0)
      end
      cursor = cursor + 1
    else
      if record then
        lib.count(record, deliveries + 1, attempts + 1, crashes)
        if verb == 'u' then record.b = '1' else lib.remember(record, 'r', ARGV[cursor]) end
        call('HINCRBY', ck, 'failed', 1)
        lib.kill(b, record, ARGV[cursor])
      end
      cursor = cursor + 1
    end
  end
end
if limited and position > #lost then
  call('HDEL', ck, 'lim')
  library().ring(b)
end

local most, due = tonumber(ARGV[4]), ''
local plain, special, anew = {}, {}, ''
if most == 0 then return { gen or '', string.format('%.3f', now), lost, due, anew, plain, special, shared and shared.notes() or {} } end

if not gen then
  gen = library().found(b)
end
if string.find(ARGV[5], 's', 1, true) then library().sweep(b, gen, 500) end
if pause then
  if pause == 'inf' or now < tonumber(pause) then
    most = 0
    due = pause == 'inf' and '' or pause
  else
    call('HDEL', ck, 'pause')
  end
end

if control[4] or string.find(ARGV[5], 'k', 1, true) then library().rule_keys(b, control[4]) end

local interval
if most > 0 and string.find(ARGV[5], 'l', 1, true) then
  local P = library().P
  if P[5] > 0 then
    local free = P[5] - library().leased(b, gen)
    if free <= 0 then call('HSET', ck, 'lim', '1') end
    most = math.max(0, math.min(most, free))
  end
  if most > 0 and P[6] > 0 then
    interval = P[7] / P[6]
    -- A slower rule of the past counts for no more than this one's whole bucket.
    local after = math.min(now + P[7], math.max(now, tonumber(call('HGET', ck, 'tat') or 0)))
    call('HSET', ck, 'tat', string.format('%.3f', after))
    local tokens = math.floor((now + P[7] - after) / interval + 0.000001)
    if tokens <= 0 then due = string.format('%.3f', after - P[7] + interval) end
    most = math.max(0, math.min(most, tokens))
  end
end

-- What is handed out: tasks, units (plain tasks, and others, of which a pack is one), and tasks beyond the number of units.
local taken, units, packed = 0, 0, 0
local consumer = ARGV[3]
local note
function note(s, entries)
  local ids = ARGV[1] ~= '' and {}
  local count, cut = #plain, nil
  for k = 1, #entries do
    local entry, fields = entries[k][1], entries[k][2]
    local version, size = string.byte(fields[1] == 'd' and fields[2] or '', 1, 2)
    local over
    if version ~= 2 or size == 0 then
      size = 1
    elseif differ then
      size, over = library().undone(s, entry, fields[2])
    end
    -- One that is damaged can't be cut; who gets it refuses it.
    if taken + size > most and size > 1 and not library().members(fields[2]) then size = 1 end
    if taken + size > most then
      cut = library().cut(s, gen, entries, k, most - taken)
      break
    end
    if s == 2 and #fields == 2 and version ~= 2 then
      plain[count + 1], plain[count + 2] = entry, fields[2]
      count = count + 2
      taken, units = taken + 1, units + 1
      if ids then ids[#ids + 1] = entry end
    elseif version == 2 or library().admit(b, s, gen, entries[k]) then
      special[#special + 1] = { units, s, entry, fields, over or '' }
      taken, units, packed = taken + size, units + 1, packed + size - 1
      if ids then ids[#ids + 1] = entry end
    end
  end
  if ids and #ids > 0 then library().stamp(b, s, gen, consumer, ids) end
  if cut and #cut > 0 then note(4, library().hand(b, gen, consumer, cut)) end
end
local function read(s)
  local before, entries = taken, 0
  -- What may not be handed out is put elsewhere on the way, so that more may be asked for; but not without end.
  for _ = 1, 20 do
    local wanted = most - taken
    if wanted <= 0 then return end
    -- As many entries as are about that many tasks, if there may be packs.
    local number = wanted
    if s == 2 and (control[5] or entries > 0) then
      number = math.max(1, math.floor(entries == 0 and wanted / 32 or wanted * entries / math.max(taken - before, entries)))
    end
    local found = try('XREADGROUP', 'GROUP', gen, consumer, 'COUNT', number, 'STREAMS', KEYS[b + s], '>')
    if not found then
      -- Nothing is left that a native read might not hand out.
      if s == 2 and control[5] then call('HDEL', ck, 'special') end
      return
    end
    if found.err then return found end
    note(s, found[1][2])
    entries = entries + #found[1][2]
    if #found[1][2] < number then return end
  end
  if taken == 0 then due = string.format('%.3f', now) end
end

local function take()
  local aside = call('EXISTS', KEYS[b + 6], KEYS[b + 7], KEYS[b + 8]) > 0
  if aside then
    library().promote(b, 200)
    local suspect = library().suspect(b)
    while suspect do
      local entries = library().hand(b, gen, consumer, { suspect })
      if #entries > 0 then call('HSET', ck, 'sus', entries[1][1]) end
      note(4, entries)
      if taken > 0 then return end
      suspect = library().suspect(b)
    end
  end
  for class = 0, 2 do
    while aside and taken < most do
      local heads = library().heads(b, class, most - taken)
      if #heads == 0 then break end
      note(4, library().hand(b, gen, consumer, library().fit(heads, most - taken)))
    end
    if taken >= most then return end
    local failed = read(class + 1)
    if failed then return failed end
  end
end

if most > 0 then
  local failed = take()
  if failed and string.find(failed.err, 'NOGROUP', 1, true) then
    -- What was taken before is in no hand now: its group is gone, too.
    anew, plain, special, taken, units, packed = 'g', {}, {}, 0, 0, 0
    gen = library().found(b, gen)
    failed = take()
  end
  if failed then return failed end
end
if packed > 0 then
  call('HINCRBY', ck, 'px', -packed)
  call('HINCRBY', ck, 'hx', packed)
end
if taken > 0 and interval then
  local after = math.max(now, tonumber(call('HGET', ck, 'tat') or 0)) + interval * taken
  call('HSET', ck, 'tat', string.format('%.3f', after))
end
if due == '' then
  local head = call('ZRANGE', KEYS[b + 6], 0, 0, 'WITHSCORES')
  if #head > 0 then due = head[2] end
end
-- Whoever takes and goes leaves the watch to the next one.
if taken > 0 and (taken >= most or due ~= '') and call('EXISTS', KEYS[b + 21]) == 0 then
  call('RPUSH', KEYS[b + 21], '1')
end
return { gen, string.format('%.3f', now), lost, due, anew, plain, special, shared and shared.notes() or {} }
