-- Comes before a native read of the class `normal`, in one transaction with it: acks, if nothing else has to be done, or
-- does nothing and puts the stream away, so that the read finds none; back.lua brings it back.
-- KEYS: normal, ids, counts, high, low, delayed, suspects, heads, bell, where the stream is put.
-- ARGV: group, holder, lease, bytes, count, whether named, first, last, entries, task ids.
local call, try = redis.call, redis.pcall
local normal, ids, counts, high, low, delayed, suspects, heads, bell, away = unpack(KEYS)
local gen, holder, count, named = ARGV[1], ARGV[2], tonumber(ARGV[5]), ARGV[6] == '1'
local from, to = 9, 8 + count
local t = call('TIME')
local now, due = t[1] * 1000 + t[2] / 1000, ''

local function fits()
  local control = call('HMGET', counts, 'gen', 'pause', 'lim', 'keyrule', 'special')
  if control[1] ~= gen or control[2] or control[3] or control[4] or control[5] then return false end
  if call('XLEN', high) + call('XLEN', low) + call('EXISTS', suspects, heads) > 0 then return false end
  local head = call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
  if #head > 0 then
    if tonumber(head[2]) <= now then return false end
    due = head[2]
  end
  local overdue = try('XPENDING', normal, gen, 'IDLE', ARGV[3], ARGV[7], ARGV[8], 1, holder)
  return not overdue.err and #overdue == 0
end

if not fits() then
  if call('EXISTS', normal) == 1 then
    call('HSET', counts, 'away', '1')
    call('RENAME', normal, away)
  end
  return { 'no' }
end

local lost, held, bytes = {}, call('XACK', normal, gen, unpack(ARGV, from, to)), tonumber(ARGV[4])
if held == count then
  call('XDEL', normal, unpack(ARGV, from, to))
  if named then call('SREM', ids, unpack(ARGV, to + 1, to + count)) end
else
  -- What was in hand is still in the stream, or a foreign hand removed it; what was lost is not.
  held, bytes = 0, 0
  for k = 0, count - 1 do
    local entry = ARGV[from + k]
    local found = call('XRANGE', normal, entry, entry)[1]
    if found then
      call('XDEL', normal, entry)
      for field = 1, #found[2], 2 do
        if found[2][field] == 'd' then bytes = bytes + #found[2][field + 1] end
      end
      if named then call('SREM', ids, ARGV[to + 1 + k]) end
      held = held + 1
    else
      lost[#lost + 1] = k
    end
  end
end
if held > 0 then
  call('HINCRBY', counts, 'acked', held)
  call('HINCRBY', counts, 'bytes', -bytes)
end
-- Whoever takes and goes leaves the watch to the next one; one that finds nothing waits again.
if call('EXISTS', bell) == 0 then call('RPUSH', bell, '1') end
return { 'ok', string.format('%.3f', now), due, lost }
