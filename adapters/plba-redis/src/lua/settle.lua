-- What becomes of a source's entry in the ledger when the dead letter of its task goes for good: it is settled in the same
-- step, or it would be open for ever, and its source would bring it again at the next start. The ledger may be elsewhere: then
-- there is no such entry here. See ledger.lua for how entries are kept.
local function settling(M)
  local LIMIT = 100000

  -- Where a record's task came from; nil when it came from no source, or can't be read.
  local function origin_of(record)
    if record.i then return nil end
    local text = record.o
    if not text then
      local version, _, _, high, low = string.byte(record.d, 1, 5)
      if version ~= 1 or not low then return nil end
      local at = 6 + high * 256 + low
      if #record.d < at + 3 then return nil end
      text = string.sub(record.d, at + 4, at + 3 + struct.unpack('>I4', record.d, at))
    end
    if not string.find(text, '"origin"', 1, true) then return nil end
    local readable, found = pcall(cjson.decode, text)
    local origin = readable and type(found) == 'table' and found.origin
    if type(origin) ~= 'table' or type(origin.source) ~= 'string' or type(origin.key) ~= 'string' then return nil end
    return origin
  end

  -- Settles the entry of a dead letter's task. False when it can't be done now, because the slot is being moved: names of
  -- sources are in records only, so that these keys can't be declared; the letter must stay until then.
  function M.settle(b, record)
    local origin = origin_of(record)
    if not origin then return true end
    local source, key = origin.source, origin.key
    local prefix = string.match(KEYS[1], '^(.*):meta$') .. ':ledger:'
    local entries, dead, deads, meta = prefix .. 'entries', prefix .. 'dead', prefix .. 'deads', prefix .. 'meta'
    local open, settled, hands = prefix .. 'open:' .. source, prefix .. 'settled:' .. source, prefix .. 'hands:' .. source
    local member = struct.pack('>I2', #source) .. source .. key
    local packed = try('HGET', entries, member)
    if type(packed) == 'table' then return false end
    local entry = packed and cmsgpack.unpack(packed)
    local ours = entry and (entry.s == 'o' or entry.s == 'x' and entry.u == string.match(KEYS[b + 20], ':q:(.*):c$'))
    if not ours then return true end
    for _, name in ipairs({ dead, deads, meta, open, settled, hands }) do
      if type(try('EXISTS', name)) == 'table' then return false end
    end
    if entry.s == 'x' then
      call('ZREM', dead, member)
      call('HINCRBY', deads, source, -1)
    else
      call('ZREM', open, key)
    end
    call('HDEL', hands, key)
    entry.s, entry.h, entry.u, entry.k = 't', nil, nil, nil
    call('HSET', entries, member, cmsgpack.pack(entry))
    call('ZADD', settled, call('HINCRBY', meta, 'seq', 1), key)
    local over = call('ZCARD', settled) - LIMIT
    if over > 0 then
      for _, old in ipairs(call('ZRANGE', settled, 0, math.min(over, 100) - 1)) do
        call('ZREM', settled, old)
        call('HDEL', entries, struct.pack('>I2', #source) .. source .. old)
      end
    end
    return true
  end
end
