-- What is seldom needed. Its functions are made only when it is asked for: a script's text runs from the top each time.
-- A queue is named by the place of its keys: KEYS[b + 1] to KEYS[b + 23], see keys.rs.
-- Numbers of streams: 1 high, 2 normal, 3 low, 4 handed out one by one.
local shared
local function library()
  if shared then return shared end
  local M = { rung = {}, vanished = 0, dropped = 0, lost = 0 }
  shared = M
  local P = {}
  for value in string.gmatch(ARGV[2], '%S+') do P[#P + 1] = tonumber(value) end
  M.P = P
  -- From so many crashes on a task is a suspect: `SUSPECT_CRASHES` of the toolkit.
  local SUSPECT = 2

  -- Injected time: the pending list takes no time later than the server's, so that a hundredth of it stands for it.
  local BASE = 1767139200000
  local injected = ARGV[1] ~= ''
  local function pending_time(at) return math.max(0, math.floor((at - BASE) * 100)) end

  function M.least_idle(lease)
    if not injected then return string.format('%.0f', lease) end
    return string.format('%.0f', math.max(0, real - pending_time(now - lease) - 50))
  end

  -- Leases just granted or renewed count from the injected time.
  function M.stamp(b, s, gen, consumer, ids)
    if not injected then return end
    for first = 1, #ids, 1000 do
      local args = { 'XCLAIM', KEYS[b + s], gen, consumer, 0 }
      for k = first, math.min(#ids, first + 999) do args[#args + 1] = ids[k] end
      args[#args + 1] = 'TIME'
      args[#args + 1] = string.format('%.0f', pending_time(now))
      args[#args + 1] = 'JUSTID'
      call(unpack(args))
    end
  end

  function M.lease_of(consumer) return tonumber(string.match(consumer, '^(%d+)|')) or P[1] end

  -- When a lease began, by how long its entry has been pending.
  function M.began(idle)
    if not injected then return real - idle end
    return BASE + (real - idle) / 100
  end

  function M.overdue(consumer, idle) return idle >= tonumber(M.least_idle(M.lease_of(consumer))) end

  function M.generation(b) return call('HGET', KEYS[b + 20], 'gen') end

  function M.ring(b)
    if not M.rung[b] then
      M.rung[b] = true
      if call('EXISTS', KEYS[b + 21]) == 0 then call('RPUSH', KEYS[b + 21], '1') end
    end
  end

  -- Records -------------------------------------------------------------------------------------------------------

  function M.read(entry)
    local fields, record = entry[2], {}
    for k = 1, #fields, 2 do record[fields[k]] = fields[k + 1] end
    if not record.d then record = { d = table.concat(fields, '\0') } end
    if not record.a then record.a = string.match(entry[1], '^%d+') end
    return M.vet(record, entry[1])
  end

  -- A record that no program can read has a name in place of its id.
  function M.vet(record, name)
    local version, _, _, high, low = string.byte(record.d, 1, 5)
    local single = version == 1 and low and high * 256 + low > 0 and #record.d >= 5 + high * 256 + low
    if not single and not M.members(record.d) then record.i = 'undecodable-' .. name end
    return record
  end

  -- Of a pack, the id of its first member: only good to name the pack.
  function M.id(record)
    if record.i then return record.i end
    local at = string.byte(record.d, 1) == 2 and 7 or 1
    local high, low = string.byte(record.d, at + 3, at + 4)
    return string.sub(record.d, at + 5, at + 4 + high * 256 + low)
  end

  function M.class(record)
    local version, class = string.byte(record.d, 1, 2)
    return not record.i and version == 1 and class < 3 and class or 1
  end

  function M.named(record)
    local version, _, flags = string.byte(record.d, 1, 3)
    return not record.i and version == 1 and flags % 2 == 1
  end

  local decoded = {}
  function M.extras(record)
    local text = record.x
    if not text then return nil end
    if not decoded[text] then decoded[text] = cjson.decode(text) end
    return decoded[text]
  end

  function M.counts(record)
    if not record.m then return 0, 0, 0 end
    local deliveries, attempts, crashes = string.match(record.m, '^(%d+) (%d+) (%d+)')
    return tonumber(deliveries), tonumber(attempts), tonumber(crashes)
  end

  function M.count(record, deliveries, attempts, crashes)
    record.m = string.format('%.0f %.0f %.0f', deliveries, attempts, crashes)
  end

  -- A line of history; the reason is JSON text, and so has no line break. The first one stays, and the latest.
  function M.remember(record, how, reason)
    local line = string.format('%.0f', now * 1000) .. ' ' .. how .. ' ' .. reason
    record.t = record.t and record.t .. '\n' .. line or line
    local _, breaks = string.gsub(record.t, '\n', '')
    if breaks >= 25 then
      local first, rest = string.match(record.t, '^([^\n]*\n)[^\n]*\n(.*)$')
      record.t = first .. rest
    end
  end

  local FIELDS = { 'd', 'm', 't', 'x', 'o', 'q', 'g', 'i', 'a' }
  function M.append(key, record)
    local args = { 'XADD', key, '*' }
    for _, name in ipairs(FIELDS) do
      if record[name] then
        args[#args + 1] = name
        args[#args + 1] = record[name]
      end
    end
    return call(unpack(args))
  end

  local function sequence(b) return call('HINCRBY', KEYS[b + 20], 'seq', 1) end
  local function reference(number, id) return struct.pack('>I8', number) .. id end
  local function line_start(key) return struct.pack('>I2', #key) .. key end

  -- Puts a record aside under a reference that sorts by age.
  local function put_aside(b, record, number)
    local ref = reference(number or sequence(b), M.id(record))
    call('HSET', KEYS[b + 5], ref, cmsgpack.pack(record))
    return ref
  end

  function M.take_aside(b, ref)
    local packed = call('HGET', KEYS[b + 5], ref)
    if not packed then return nil end
    call('HDEL', KEYS[b + 5], ref)
    return cmsgpack.unpack(packed)
  end

  -- A unique task's key knows where the task waits.
  local function locate(b, record, where)
    local extras = M.extras(record)
    if not (extras and extras.u) then return end
    local packed = call('HGET', KEYS[b + 14], extras.u)
    if not packed then return end
    local owner = cmsgpack.unpack(packed)
    if owner.id == M.id(record) then
      owner.at = where
      call('HSET', KEYS[b + 14], extras.u, cmsgpack.pack(owner))
    end
  end

  -- Ready at a time: delayed, suspect, at the head, or at the end of its class.
  function M.place(b, record, at, front)
    local _, _, crashes = M.counts(record)
    record.a = string.format('%.3f', at)
    local where
    if at > now then
      local ref = put_aside(b, record)
      call('ZADD', KEYS[b + 6], string.format('%.3f', at), ref)
      where = 'w' .. ref
    elseif crashes >= SUSPECT then
      local ref = put_aside(b, record)
      call('ZADD', KEYS[b + 7], crashes, ref)
      where = 'w' .. ref
    elseif front then
      local number = sequence(b)
      local ref = put_aside(b, record, number)
      call('ZADD', KEYS[b + 8], string.format('%.0f', M.class(record) * 1e15 - number), ref)
      where = 'w' .. ref
    else
      local class = M.class(record)
      if record.x then call('HSET', KEYS[b + 20], 'special', '1') end
      where = 's' .. class .. M.append(KEYS[b + 1 + class], record)
    end
    M.ring(b)
    locate(b, record, where)
  end

  -- Behind others of its key: in an ordered line (9), or for want of a lease (11).
  function M.hold(b, list, record, key)
    local ref = put_aside(b, record)
    call('ZADD', KEYS[b + list], 0, line_start(key) .. ref)
    locate(b, record, 'w' .. ref)
  end

  local function follow(b, list, key)
    if call('EXISTS', KEYS[b + list]) == 0 then return false end
    local start = line_start(key)
    local found = call('ZRANGEBYLEX', KEYS[b + list], '[' .. start, '[' .. start .. string.rep('\255', 9), 'LIMIT', 0, 1)
    if #found == 0 then return false end
    call('ZREM', KEYS[b + list], found[1])
    local record = M.take_aside(b, string.sub(found[1], #start + 1))
    if record then M.place(b, record, math.max(now, tonumber(record.a))) end
    return true
  end

  -- Endings -------------------------------------------------------------------------------------------------------

  -- The lease of an entry has ended: its key has one more.
  function M.lease_ended(b, s, entry, record)
    local extras = M.extras(record)
    if extras and extras.k then
      if call('HINCRBY', KEYS[b + 12], extras.k, -1) <= 0 then call('HDEL', KEYS[b + 12], extras.k) end
      follow(b, 11, extras.k)
    end
    record.g = nil
    if s == 4 and call('HGET', KEYS[b + 20], 'sus') == entry then
      call('HDEL', KEYS[b + 20], 'sus')
      M.ring(b)
    end
  end

  -- The task is neither waiting nor in hand any more.
  function M.leave(b, record)
    local extras = M.extras(record)
    if not extras then return end
    if extras.o then
      if call('HINCRBY', KEYS[b + 10], extras.k, -1) <= 0 then
        call('HDEL', KEYS[b + 10], extras.k)
      else
        follow(b, 9, extras.k)
      end
    end
    if extras.u and not extras.f then
      local packed = call('HGET', KEYS[b + 14], extras.u)
      if packed and cmsgpack.unpack(packed).id == M.id(record) then call('HDEL', KEYS[b + 14], extras.u) end
    end
  end

  local function forget(b, ref)
    local id = string.sub(ref, 9)
    call('HDEL', KEYS[b + 16], ref)
    call('ZREM', KEYS[b + 17], ref)
    call('HDEL', KEYS[b + 18], id)
    call('SREM', KEYS[b + 19], id)
  end
  M.forget = forget

  -- At most a hundred dead letters at a time go for their number or age.
  function M.retain(b)
    local over = call('ZCARD', KEYS[b + 17]) - P[3]
    local oldest = call('ZRANGE', KEYS[b + 17], 0, 99)
    local gone = 0
    for k, ref in ipairs(oldest) do
      local packed = call('HGET', KEYS[b + 16], ref)
      local record = packed and cmsgpack.unpack(packed)
      local old = k <= over or not record or tonumber(record.z) + P[4] <= now
      if not old or record and not M.settle(b, record) then break end
      forget(b, ref)
      gone = gone + 1
    end
    if gone > 0 then
      call('HINCRBY', KEYS[b + 20], 'dropped', gone)
      M.dropped = M.dropped + gone
    end
  end

  function M.kill(b, record, why)
    record.w, record.z, record.g = why, string.format('%.3f', now), nil
    local id = M.id(record)
    local ref = reference(sequence(b), id)
    call('HSET', KEYS[b + 16], ref, cmsgpack.pack(record))
    call('ZADD', KEYS[b + 17], 0, ref)
    call('HSET', KEYS[b + 18], id, ref)
    call('HINCRBY', KEYS[b + 20], 'bytes', -#record.d)
    M.leave(b, record)
    M.retain(b)
  end

  -- Takes an entry from its holder; nil when the lease is not held, false when a foreign hand removed the entry.
  function M.withdraw(b, s, gen, entry)
    if call('XACK', KEYS[b + s], gen, entry) == 0 then return nil end
    local found = call('XRANGE', KEYS[b + s], entry, entry)[1]
    if not found then
      M.vanished = M.vanished + 1
      if s == 4 and call('HGET', KEYS[b + 20], 'sus') == entry then call('HDEL', KEYS[b + 20], 'sus') end
      return false
    end
    call('XDEL', KEYS[b + s], entry)
    local record = M.read(found)
    -- A pack that can't be read was counted as what it says it is, and is one record from here on.
    if record.i and M.weight(record.d) > 1 then call('HINCRBY', KEYS[b + 20], 'hx', 1 - M.weight(record.d)) end
    M.lease_ended(b, s, entry, record)
    return record
  end

  -- The holder of an entry disappeared, or its lease ran out: loses its tasks, or at most so many of them. Gives how many,
  -- and whether there are more.
  function M.lose(b, s, gen, entry, reason, most)
    local found = most and call('XRANGE', KEYS[b + s], entry, entry)[1]
    local data = found and M.read(found).d
    if data and M.undone(s, entry, data) > most then
      local over, open = M.over(s, entry), {}
      for k = 1, M.weight(data) do
        if #open < most and M.is_open(over, k) then open[#open + 1] = k end
      end
      for n = #open, 1, -1 do
        local record = M.withdraw_member(s, gen, entry, open[n], M.weight(data))
        if not record then return 0, false end
        M.lost_with(b, record, reason)
      end
      return #open, true
    end
    local record = M.withdraw(b, s, gen, entry)
    if not record then return 0, false end
    local records = M.singles(s, entry, record)
    -- The last one first: each comes before what is there.
    for n = #records, 1, -1 do M.lost_with(b, records[n], reason) end
    return #records, false
  end

  -- The task of a record disappeared with its holder.
  function M.lost_with(b, record, reason)
    local deliveries, attempts, crashes = M.counts(record)
    M.count(record, deliveries + 1, attempts, crashes + 1)
    M.remember(record, 'c', reason or '"the lease ran out while the task was in hand"')
    call('HINCRBY', KEYS[b + 20], 'lost', 1)
    M.lost = M.lost + 1
    if crashes + 1 >= P[2] then
      M.kill(b, record, string.format('%.0f consumers disappeared with it', crashes + 1))
    else
      M.place(b, record, now, true)
    end
  end

  -- Loses what is overdue among a consumer's entries in a range.
  function M.lose_overdue(b, s, gen, consumer, first, last)
    while true do
      local overdue = try('XPENDING', KEYS[b + s], gen, 'IDLE', M.least_idle(M.lease_of(consumer)), first, last, 100, consumer)
      if overdue.err or #overdue == 0 then return end
      for _, pending in ipairs(overdue) do M.lose(b, s, gen, pending[1]) end
    end
  end

  -- Looks at `limit` pending entries of one stream from a cursor on; gives the next cursor, or nil when all round.
  function M.pass(b, s, gen, cursor, limit)
    local page = try('XPENDING', KEYS[b + s], gen, cursor, '+', limit)
    if page.err then return nil, 0 end
    local found = 0
    for _, pending in ipairs(page) do
      if found >= limit then return pending[1], found end
      if M.overdue(pending[2], pending[3]) then
        local count, more = M.lose(b, s, gen, pending[1], nil, limit - found)
        found = found + count
        if more then return pending[1], found end
      end
    end
    return #page >= limit and '(' .. page[#page][1] or nil, found
  end

  -- A bounded pass over all streams, which goes on where the one before ended, whoever made it.
  function M.sweep(b, gen, limit)
    for s = 1, 4 do
      local field = 'cursor' .. s
      local cursor = call('HGET', KEYS[b + 20], field)
      local following = M.pass(b, s, gen, cursor or '-', limit)
      if following then
        call('HSET', KEYS[b + 20], field, following)
      elseif cursor then
        call('HDEL', KEYS[b + 20], field)
      end
    end
    M.fade(gen, limit)
    M.unhold(b)
    M.mend(b, gen)
    M.retain(b)
  end

  -- What waits for a lease of its key goes on if the limit was lifted meanwhile.
  function M.unhold(b)
    if call('EXISTS', KEYS[b + 11]) == 0 then return end
    for _, member in ipairs(call('ZRANGE', KEYS[b + 11], 0, 99)) do
      local high, low = string.byte(member, 1, 2)
      local key = string.sub(member, 3, 2 + high * 256 + low)
      if P[8] == 0 or tonumber(call('HGET', KEYS[b + 12], key) or 0) < P[8] then follow(b, 11, key) end
    end
  end

  -- Tokens that keys have taken, and wait for, are those of one rule: with another one the count begins anew.
  function M.rule_keys(b, before)
    local rule = P[9] > 0 and P[9] .. '/' .. P[10] or false
    if rule == before then return end
    call('DEL', KEYS[b + 13])
    if rule then call('HSET', KEYS[b + 20], 'keyrule', rule) else call('HDEL', KEYS[b + 20], 'keyrule') end
    if not before then return end
    for _, ref in ipairs(call('ZRANGE', KEYS[b + 6], 0, 999)) do
      local packed = call('HGET', KEYS[b + 5], ref)
      local record = packed and cmsgpack.unpack(packed)
      if record and record.g then
        call('HDEL', KEYS[b + 5], ref)
        call('ZREM', KEYS[b + 6], ref)
        record.g = nil
        M.place(b, record, now)
      end
    end
  end

  function M.leased(b, gen)
    local count = 0
    for s = 1, 4 do
      local summary = try('XPENDING', KEYS[b + s], gen)
      if not summary.err then count = count + summary[1] end
    end
    return count > 0 and count + math.max(0, tonumber(call('HGET', KEYS[b + 20], 'hx') or 0)) or 0
  end

  -- A foreign hand may have removed what others wait for: with nothing in hand no key has a lease, and with nothing
  -- waiting either, no line has a head.
  function M.mend(b, gen)
    if call('EXISTS', KEYS[b + 9], KEYS[b + 11], KEYS[b + 12]) == 0 or M.leased(b, gen) > 0 then return end
    call('DEL', KEYS[b + 12])
    local function free(list)
      for _, member in ipairs(call('ZRANGE', KEYS[b + list], 0, 99)) do
        local high, low = string.byte(member, 1, 2)
        follow(b, list, string.sub(member, 3, 2 + high * 256 + low))
      end
    end
    if call('EXISTS', KEYS[b + 11]) == 1 then free(11) end
    local waiting = call('ZCARD', KEYS[b + 6]) + call('ZCARD', KEYS[b + 7]) + call('ZCARD', KEYS[b + 8])
    for s = 1, 4 do waiting = waiting + call('XLEN', KEYS[b + s]) end
    if waiting == 0 and call('EXISTS', KEYS[b + 9]) == 1 then free(9) end
  end

  -- A stream that gate.lua put away stays so only if the server refused to bring it back, for its disk.
  function M.bring_back(b)
    local key = KEYS[b + 2]
    local away = key .. ':away'
    if call('EXISTS', away) == 1 then
      local fresh = call('XRANGE', key, '-', '+')
      call('RENAME', away, key)
      for _, entry in ipairs(fresh) do call('XADD', key, '*', unpack(entry[2])) end
    end
    call('HDEL', KEYS[b + 20], 'away')
  end

  -- Consumer groups -----------------------------------------------------------------------------------------------

  -- Creates the groups of a queue, from the beginning of its streams, under a new name: tokens of an earlier group are
  -- stale whatever they name.
  function M.found(b, before)
    local t = call('TIME')
    local gen = string.format('g%.0f', t[1] * 1000000 + t[2])
    if gen == before then gen = gen .. 'a' end
    for s = 1, 4 do
      call('XGROUP', 'CREATE', KEYS[b + s], gen, '0', 'MKSTREAM')
      if before then try('XGROUP', 'DESTROY', KEYS[b + s], before) end
    end
    -- Of a stream that was there before, or whose counts are gone, nobody knows what it has.
    local counts = call('HMGET', KEYS[b + 20], 'published', 'hx')
    if before or not counts[1] then call('HSET', KEYS[b + 20], 'special', '1') end
    call('HSET', KEYS[b + 20], 'gen', gen)
    if counts[2] then call('HINCRBY', KEYS[b + 20], 'px', counts[2]) end
    call('HDEL', KEYS[b + 20], 'sus', 'cursor1', 'cursor2', 'cursor3', 'cursor4', 'hx')
    call('DEL', KEYS[b + 23])
    call('SADD', KEYS[2], string.match(KEYS[b + 20], ':q:(.*):c$'))
    -- What had been handed out one by one waits again; the last one first, so that the first one comes first.
    for _, entry in ipairs(call('XREVRANGE', KEYS[b + 4], '+', '-')) do
      call('XDEL', KEYS[b + 4], entry[1])
      local record = M.rest(4, entry[1], M.read(entry))
      record.g = nil
      M.place(b, record, now, true)
    end
    M.mend(b, gen)
    return gen
  end

  -- Taking --------------------------------------------------------------------------------------------------------

  -- Moves at most `budget` tasks that are due to where the ready ones are.
  function M.promote(b, budget)
    local due = call('ZRANGEBYSCORE', KEYS[b + 6], '-inf', string.format('%.3f', now), 'LIMIT', 0, budget)
    if #due == 0 then return end
    local packed = call('HMGET', KEYS[b + 5], unpack(due))
    call('HDEL', KEYS[b + 5], unpack(due))
    call('ZREM', KEYS[b + 6], unpack(due))
    for k = 1, #due do
      if packed[k] then
        local record = cmsgpack.unpack(packed[k])
        M.place(b, record, math.min(now, tonumber(record.a)))
      end
    end
  end

  function M.expired(record)
    local extras = M.extras(record)
    return extras and extras.e and not record.q and now * 1000 >= tonumber(extras.e)
  end

  -- Whether an entry that has been read may be handed out; if not, it is put where it belongs.
  function M.admit(b, s, gen, entry)
    local record = M.read(entry)
    local extras = M.extras(record)
    if not extras then return true end
    local function remove()
      call('XACK', KEYS[b + s], gen, entry[1])
      call('XDEL', KEYS[b + s], entry[1])
      if s == 4 and call('HGET', KEYS[b + 20], 'sus') == entry[1] then call('HDEL', KEYS[b + 20], 'sus') end
    end
    if M.expired(record) then
      remove()
      M.remember(record, 'x', '"' .. extras.e .. '"')
      call('HINCRBY', KEYS[b + 20], 'expired', 1)
      M.kill(b, record, 'x' .. extras.e)
      return false
    end
    if not extras.k then return true end
    if P[8] > 0 and tonumber(call('HGET', KEYS[b + 12], extras.k) or 0) >= P[8] then
      remove()
      M.hold(b, 11, record, extras.k)
      return false
    end
    if P[9] > 0 and not record.g then
      local after = math.max(now, tonumber(call('ZSCORE', KEYS[b + 13], extras.k) or 0)) + P[10] / P[9]
      call('ZREMRANGEBYSCORE', KEYS[b + 13], '-inf', string.format('%.3f', now))
      call('ZADD', KEYS[b + 13], string.format('%.3f', after), extras.k)
      if after - now > P[10] + 0.001 then
        -- The token is its own already: it waits for it, and needs no other.
        remove()
        record.g = '1'
        M.place(b, record, after - P[10])
        return false
      end
    end
    call('HINCRBY', KEYS[b + 12], extras.k, 1)
    return true
  end

  -- Hands out records that are not in a stream of their class.
  function M.hand(b, gen, consumer, records)
    for _, record in ipairs(records) do M.append(KEYS[b + 4], record) end
    local read = call('XREADGROUP', 'GROUP', gen, consumer, 'COUNT', #records, 'STREAMS', KEYS[b + 4], '>')
    return read and read[1][2] or {}
  end

  -- Those that were given back, the latest one first.
  function M.heads(b, class, count)
    local last = class * 1e15
    local refs = call('ZRANGEBYSCORE', KEYS[b + 8], string.format('(%.0f', last - 1e15), string.format('%.0f', last),
      'LIMIT', 0, count)
    local records = {}
    for _, ref in ipairs(refs) do
      call('ZREM', KEYS[b + 8], ref)
      records[#records + 1] = M.take_aside(b, ref)
    end
    return records
  end

  -- The suspect that is handed out next, if none is out.
  function M.suspect(b)
    if call('HEXISTS', KEYS[b + 20], 'sus') == 1 then return nil end
    local refs = call('ZRANGE', KEYS[b + 7], 0, 0)
    if #refs == 0 then return nil end
    call('ZREM', KEYS[b + 7], refs[1])
    return M.take_aside(b, refs[1])
  end

  -- Publishing ----------------------------------------------------------------------------------------------------

  -- Where the task that has a unique key waits, if it does: its record, taken from there.
  local function withdraw_waiting(b, owner)
    local where = owner.at
    if not where then return nil end
    if string.sub(where, 1, 1) == 'w' then
      local ref = string.sub(where, 2)
      local record = M.take_aside(b, ref)
      if record then
        -- It may wait in any of these, and in a line it keeps its place.
        for _, list in ipairs({ 6, 7, 8 }) do call('ZREM', KEYS[b + list], ref) end
      end
      return record, ref
    end
    local s, entry = tonumber(string.sub(where, 2, 2)) + 1, string.sub(where, 3)
    local gen = M.generation(b)
    if gen then
      local pending = try('XPENDING', KEYS[b + s], gen, entry, entry, 1)
      if not pending.err and #pending > 0 then return nil end
    end
    local found = call('XRANGE', KEYS[b + s], entry, entry)[1]
    if not found then return nil end
    call('XDEL', KEYS[b + s], entry)
    return M.read(found)
  end

  local function in_line(b, list, key, ref)
    return key and call('ZSCORE', KEYS[b + list], line_start(key) .. ref)
  end

  -- The waiting task takes over what the new one brings, but its id, origin, key, counts and history.
  local function replace(b, old, ref, data, at, extras)
    local was = M.extras(old) or {}
    local id = M.id(old)
    local high, low = string.byte(data, 4, 5)
    local flags = string.byte(old.d, 3)
    local d = string.sub(data, 1, 2) .. string.char(flags) .. struct.pack('>I2', #id) .. id
      .. string.sub(data, 6 + high * 256 + low)
    call('HINCRBY', KEYS[b + 20], 'bytes', #d - #old.d)
    local merged = { e = extras.e, u = extras.u, f = extras.f, r = extras.r, k = was.k, o = was.o, og = was.og }
    local record = { d = d, x = cjson.encode(merged), o = was.og, m = old.m, t = old.t, g = old.g }
    if ref and was.o and in_line(b, 9, was.k, ref) then
      record.a = string.format('%.3f', at)
      call('HSET', KEYS[b + 5], ref, cmsgpack.pack(record))
    elseif ref and in_line(b, 11, was.k, ref) then
      record.a = string.format('%.3f', at)
      call('HSET', KEYS[b + 5], ref, cmsgpack.pack(record))
    else
      M.place(b, record, at)
    end
    return id, merged
  end

  local function own_key(b, extras, id, where)
    local period = extras.f and tonumber(extras.f)
    call('HSET', KEYS[b + 14], extras.u, cmsgpack.pack({ id = id, at = where or false, till = period and now + period or 0 }))
    if period then
      call('ZADD', KEYS[b + 15], string.format('%.3f', now + period), extras.u)
      for _, key in ipairs(call('ZRANGEBYSCORE', KEYS[b + 15], '-inf', string.format('%.3f', now), 'LIMIT', 0, 20)) do
        call('ZREM', KEYS[b + 15], key)
        local packed = call('HGET', KEYS[b + 14], key)
        local till = packed and cmsgpack.unpack(packed).till
        if till and till > 0 and till <= now then call('HDEL', KEYS[b + 14], key) end
      end
    end
  end

  -- Who has a unique key now.
  local function owner_of(b, key)
    local packed = call('HGET', KEYS[b + 14], key)
    local owner = packed and cmsgpack.unpack(packed)
    if owner and owner.till > 0 and owner.till <= now then return nil end
    return owner
  end

  -- Enters a record as a new task: into its line, or where the ready ones are.
  function M.enter(b, record, at)
    local extras = M.extras(record)
    if extras and extras.o and call('HINCRBY', KEYS[b + 10], extras.k, 1) > 1 then
      record.a = string.format('%.3f', at)
      M.hold(b, 9, record, extras.k)
    else
      M.place(b, record, at)
    end
  end

  -- Publishes one task. Gives the id of the task that is there instead, if one is.
  function M.publish(b, data, delay, text)
    local record = { d = data }
    local id = M.id(record)
    if M.named(record) and call('SISMEMBER', KEYS[b + 19], id) == 1 then return nil end
    local at = now + delay
    if text ~= '' then record.x = text end
    local extras = M.extras(record)
    if extras and extras.u then
      local owner = owner_of(b, extras.u)
      if owner and not extras.r then return owner.id end
      if owner then
        local old, ref = withdraw_waiting(b, owner)
        if old then
          owner.at = nil
          local replaced, merged = replace(b, old, ref, data, at, extras)
          local where = call('HGET', KEYS[b + 14], extras.u)
          where = where and cmsgpack.unpack(where).at
          own_key(b, merged, replaced, where)
          return replaced
        end
      end
      own_key(b, extras, id)
    end
    if M.named(record) then call('SADD', KEYS[b + 19], id) end
    local published = call('HINCRBY', KEYS[b + 20], 'published', 1)
    if published == 1 then
      call('SADD', KEYS[2], string.match(KEYS[b + 20], ':q:(.*):c$'))
      call('HSET', KEYS[b + 20], 'special', '1')
    end
    call('HINCRBY', KEYS[b + 20], 'bytes', #data)
    M.enter(b, record, at)
    return nil
  end

  -- A dead letter is a task again.
  function M.revive(b, id)
    local ref = call('HGET', KEYS[b + 18], id)
    local packed = ref and call('HGET', KEYS[b + 16], ref)
    if not packed then return 0 end
    local record = cmsgpack.unpack(packed)
    if record.i or record.b then return 0 end
    call('HDEL', KEYS[b + 16], ref)
    call('ZREM', KEYS[b + 17], ref)
    call('HDEL', KEYS[b + 18], id)
    if M.expired(record) then record.q = '1' end
    record.m, record.w, record.z = nil, nil, nil
    local extras = M.extras(record)
    if extras and extras.u and not extras.f and not owner_of(b, extras.u) then own_key(b, extras, id) end
    call('HINCRBY', KEYS[b + 20], 'bytes', #record.d)
    M.enter(b, record, now)
    return 1
  end

  -- What the caller has to know of: entries that a foreign hand removed, dead letters dropped, leases lost.
  function M.notes() return { M.vanished, M.dropped, M.lost } end

  packs(M)
  settling(M)
  return M
end
