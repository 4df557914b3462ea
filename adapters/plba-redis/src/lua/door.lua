-- Comes before native appends of plain tasks of the class `normal`, in one transaction with them: when all of them are new
-- and there is room, it puts the stream where they are appended to; back.lua brings it back. Else they find no stream.
-- KEYS: normal, high, low, hand, aside, ids, counts, queues, bell, where the stream is put.
-- ARGV: capacity, its bytes, tasks, their bytes, how many tasks there are beyond the number of entries, ids.
local call = redis.call
local normal, high, low, hand, aside, ids, counts, queues, bell, away = unpack(KEYS)
local tasks, bytes, packed = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local first, last = 6, #ARGV
local t = call('TIME')

local there = call('XLEN', normal) + call('XLEN', high) + call('XLEN', low) + call('XLEN', hand) + call('HLEN', aside)
local control = call('HMGET', counts, 'bytes', 'px', 'hx', 'away')
if control[4] then return { 'no' } end
if there > 0 then
  there = there + math.max(0, tonumber(control[2] or 0)) + math.max(0, tonumber(control[3] or 0))
  if there + tasks > tonumber(ARGV[1]) or tonumber(control[1] or 0) + bytes > tonumber(ARGV[2]) then return { 'no' } end
end
if last >= first then
  local known = call('SMISMEMBER', ids, unpack(ARGV, first, last))
  for k = 1, #known do
    if known[k] == 1 then return { 'no' } end
  end
  if call('SADD', ids, unpack(ARGV, first, last)) < #known then
    -- One comes twice; before this, none was there.
    call('SREM', ids, unpack(ARGV, first, last))
    return { 'no' }
  end
end
local function open()
  if there == 0 then call('HSET', counts, 'bytes', 0, 'px', 0, 'hx', 0) end
  call('HINCRBY', counts, 'bytes', bytes)
  local special = packed > 0
  if special then call('HINCRBY', counts, 'px', packed) end
  if call('HINCRBY', counts, 'published', tasks) == tasks then
    call('SADD', queues, string.match(counts, ':q:(.*):c$'))
    special = special or there > 0
  end
  if special then call('HSET', counts, 'special', '1') end
  if call('EXISTS', normal) == 0 then
    call('XGROUP', 'CREATE', normal, 'none', '0', 'MKSTREAM')
    call('XGROUP', 'DESTROY', normal, 'none')
  end
  if call('EXISTS', bell) == 0 then call('RPUSH', bell, '1') end
  call('HSET', counts, 'away', '1')
  call('RENAME', normal, away)
end
local opened, failure = pcall(open)
if opened then return { 'ok', string.format('%.3f', t[1] * 1000 + t[2] / 1000) } end
-- Ids that are taken without their tasks would be lost.
if last >= first then call('SREM', ids, unpack(ARGV, first, last)) end
return type(failure) == 'table' and failure or redis.error_reply(tostring(failure))
