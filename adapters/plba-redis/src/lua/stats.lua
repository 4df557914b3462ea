-- The counts of a queue. ARGV: time, settings.
local b, lib = 2, library()
local c = call('HMGET', KEYS[22], 'gen', 'pause', 'bytes', 'published', 'acked', 'failed', 'lost', 'expired', 'dropped', 'px', 'hx')
local gen = c[1]
local ready, leased, oldest = 0, 0, nil
local function seen(at)
  at = tonumber(at)
  if at and (not oldest or at < oldest) then oldest = at end
end
for s = 1, 4 do
  local length, pending = call('XLEN', KEYS[b + s]), 0
  local last = '-'
  if gen then
    local summary = try('XPENDING', KEYS[b + s], gen)
    if not summary.err then pending = summary[1] end
    local groups = try('XINFO', 'GROUPS', KEYS[b + s])
    if not groups.err then
      for _, group in ipairs(groups) do
        local fact = {}
        for k = 1, #group, 2 do fact[group[k]] = group[k + 1] end
        if fact.name == gen then last = '(' .. fact['last-delivered-id'] end
      end
    end
  end
  leased = leased + pending
  ready = ready + math.max(0, length - pending)
  local head = call('XRANGE', KEYS[b + s], last, '+', 'COUNT', 1)[1]
  if head then seen(lib.read(head).a) end
end
ready = ready + math.max(0, tonumber(c[10] or 0))
if leased > 0 then leased = leased + math.max(0, tonumber(c[11] or 0)) end
for _, list in ipairs({ 7, 8 }) do
  ready = ready + call('ZCARD', KEYS[b + list])
  local refs = call('ZRANGE', KEYS[b + list], 0, 0)
  local packed = #refs > 0 and call('HGET', KEYS[b + 5], refs[1])
  if packed then seen(cmsgpack.unpack(packed).a) end
end
local due = call('ZCOUNT', KEYS[b + 6], '-inf', string.format('%.3f', now))
local head = call('ZRANGE', KEYS[b + 6], 0, 0, 'WITHSCORES')
if due > 0 then seen(head[2]) end
local delayed = call('ZCARD', KEYS[b + 6]) - due
local held = call('ZCARD', KEYS[b + 9]) + call('ZCARD', KEYS[b + 11])
local pause = c[2]
if pause and pause ~= 'inf' and tonumber(pause) <= now then pause = false end
local numbers = { ready + due, delayed, held, leased, call('ZCARD', KEYS[b + 17]) }
for k = 3, 9 do numbers[#numbers + 1] = tonumber(c[k] or 0) end
numbers[#numbers + 1] = oldest and math.max(0, math.floor((now - oldest) * 1000)) or -1
return { gen or '', string.format('%.3f', now), numbers, pause or '' }
