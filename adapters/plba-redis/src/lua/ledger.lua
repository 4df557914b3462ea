-- The ledger of sources. KEYS: sources, entries, dead, meta, cursors, numbers of dead, and of one source: open, done,
-- settled, in hand. ARGV: time, verb, source, and what it takes. An entry: state (o open, n done, t settled, x dead), place,
-- counts, history as lines, queue and kind.
local SOURCES, ENTRIES, DEAD, META, CURSORS, DEADS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local ORDER = { o = KEYS[7], n = KEYS[8], t = KEYS[9] }
local HANDS = KEYS[10]
local verb, source = ARGV[2], ARGV[3]
local head = struct.pack('>I2', #source) .. source
local LIMIT = 100000

local function load(key)
  local packed = call('HGET', ENTRIES, head .. key)
  return packed and cmsgpack.unpack(packed)
end
local function save(key, entry) call('HSET', ENTRIES, head .. key, cmsgpack.pack(entry)) end
local function place(key, entry, state)
  if entry.s == 'x' then
    call('ZREM', DEAD, head .. key)
    call('HINCRBY', DEADS, source, -1)
  elseif entry.s then
    call('ZREM', ORDER[entry.s], key)
  end
  local number = call('HINCRBY', META, 'seq', 1)
  entry.s = state
  if state == 'x' then
    call('ZADD', DEAD, number, head .. key)
    call('HINCRBY', DEADS, source, 1)
  else
    call('ZADD', ORDER[state], number, key)
  end
  if state ~= 'o' then call('HDEL', HANDS, key) end
  if state == 't' then
    entry.h, entry.u, entry.k = nil, nil, nil
    save(key, entry)
    local over = call('ZCARD', ORDER.t) - LIMIT
    if over > 0 then
      for _, old in ipairs(call('ZRANGE', ORDER.t, 0, math.min(over, 100) - 1)) do
        call('ZREM', ORDER.t, old)
        call('HDEL', ENTRIES, head .. old)
      end
    end
  else
    save(key, entry)
  end
  return entry
end
local function known(key)
  local entry = load(key)
  if entry then return entry end
  call('SADD', SOURCES, source)
  return place(key, { d = 0, a = 0, c = 0 }, 'o')
end
local function remember(entry, attempt)
  entry.h = entry.h and entry.h .. '\n' .. attempt or attempt
  local _, breaks = string.gsub(entry.h, '\n', '')
  if breaks >= 25 then
    local first, rest = string.match(entry.h, '^([^\n]*\n)[^\n]*\n(.*)$')
    entry.h = first .. rest
  end
end
local function counts(entry) return { entry.d, entry.a, entry.c } end
local function whole(entry) return { entry.s, counts(entry), entry.h or '', entry.u or '', entry.k or '' } end

if verb == 'intake' then
  for k = 4, #ARGV do known(ARGV[k]) end
  return 1
elseif verb == 'deliver' then
  local answer = {}
  for k = 5, #ARGV do
    local key = ARGV[k]
    local entry = known(key)
    if entry.s ~= 'o' then
      answer[#answer + 1] = {}
    else
      if call('HEXISTS', HANDS, key) == 1 then entry.c = entry.c + 1 end
      call('HSET', HANDS, key, ARGV[4])
      entry.d = entry.d + 1
      save(key, entry)
      answer[#answer + 1] = counts(entry)
    end
  end
  return answer
elseif verb == 'end' then
  local cursor = 4
  while cursor <= #ARGV do
    local key, how, attempt, queue, kind = unpack(ARGV, cursor, cursor + 4)
    cursor = cursor + 5
    local entry = known(key)
    if entry.s == 'o' then
      call('HDEL', HANDS, key)
      if how == 'failed' then
        entry.a = entry.a + 1
        remember(entry, attempt)
        save(key, entry)
      elseif how == 'done' then
        place(key, entry, 'n')
      elseif how == 'dead' or how == 'crashed' then
        if how == 'dead' then entry.a = entry.a + 1 end
        remember(entry, attempt)
        entry.u, entry.k = queue, kind
        place(key, entry, 'x')
      end
    end
  end
  return 1
elseif verb == 'settle' then
  for k = 4, #ARGV do
    local entry = load(ARGV[k])
    if entry and entry.s ~= 't' then place(ARGV[k], entry, 't') end
  end
  return 1
elseif verb == 'forget' then
  for k = 4, #ARGV do
    local entry = load(ARGV[k])
    if entry and entry.s == 't' then
      call('ZREM', ORDER.t, ARGV[k])
      call('HDEL', ENTRIES, head .. ARGV[k])
    end
  end
  return 1
elseif verb == 'known' then
  local answer = {}
  for k = 4, #ARGV do
    local entry = load(ARGV[k])
    answer[#answer + 1] = entry and whole(entry) or {}
  end
  return answer
elseif verb == 'order' then
  return call('ZRANGE', ORDER[ARGV[4]], ARGV[5], ARGV[6])
elseif verb == 'cursor' then
  return { call('HGET', CURSORS, source) }
elseif verb == 'set' then
  call('SADD', SOURCES, source)
  call('HSET', CURSORS, source, ARGV[4])
  return 1
elseif verb == 'dead' then
  local members = call('ZRANGEBYSCORE', DEAD, '(' .. ARGV[4], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[5])
  local answer = {}
  for k = 1, #members, 2 do
    local packed = call('HGET', ENTRIES, members[k])
    if packed then
      local high, low = string.byte(members[k], 1, 2)
      local size = high * 256 + low
      answer[#answer + 1] = { members[k + 1], string.sub(members[k], 3, 2 + size), string.sub(members[k], 3 + size),
        whole(cmsgpack.unpack(packed)) }
    end
  end
  return answer
elseif verb == 'retry' or verb == 'drop' then
  local entry = load(ARGV[4])
  if not entry or entry.s ~= 'x' or entry.u ~= ARGV[5] then return 0 end
  if verb == 'retry' then entry.d, entry.a, entry.c = 0, 0, 0 end
  place(ARGV[4], entry, verb == 'retry' and 'o' or 't')
  return 1
elseif verb == 'stats' then
  return { call('ZCARD', ORDER.o), call('ZCARD', ORDER.n), call('ZCARD', ORDER.t), tonumber(call('HGET', DEADS, source) or 0) }
elseif verb == 'hands' then
  return call('HGETALL', HANDS)
elseif verb == 'crashed' then
  -- Only if it is still in the hand that was seen.
  for k = 4, #ARGV, 2 do
    if call('HGET', HANDS, ARGV[k]) == ARGV[k + 1] then
      call('HDEL', HANDS, ARGV[k])
      local entry = load(ARGV[k])
      if entry and entry.s == 'o' then
        entry.c = entry.c + 1
        save(ARGV[k], entry)
      end
    end
  end
  return 1
end
return redis.error_reply('ERR unknown verb')
