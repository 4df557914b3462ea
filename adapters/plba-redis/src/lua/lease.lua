-- Leases. KEYS: the lease. ARGV: time, verb, and what it takes. Tokens are compared as texts: Lua's numbers end at 2^53.
local key, verb = KEYS[1], ARGV[2]
local f = call('HMGET', key, 'token', 'holder', 'since', 'renewed', 'deadline')
local token, holder = f[1], f[2]
local renewed, deadline = tonumber(f[4] or 0), tonumber(f[5] or 0)
now = math.floor(now)
local held = holder and now < deadline
local function text(number) return string.format('%.0f', number) end
if verb == 'acquire' then
  if held then
    if renewed > now then
      -- The time of day was set back: what was left of the grant counts from now on, for at most its whole length.
      call('HSET', key, 'renewed', text(now), 'deadline', text(now + deadline - renewed))
    end
    return {}
  end
  -- By the time, so that it grows even if the server lost what it knew.
  local given = text(math.max(tonumber(token or 0) + 1, math.floor(now * 1000)))
  call('HSET', key, 'token', given, 'holder', ARGV[3], 'since', text(now), 'renewed', text(now), 'deadline', text(now + ARGV[4]))
  return { given, text(now + ARGV[4]) }
elseif verb == 'renew' then
  if not held or token ~= ARGV[3] then return {} end
  call('HSET', key, 'renewed', text(now), 'deadline', text(now + ARGV[4]))
  return { token, text(now + ARGV[4]) }
elseif verb == 'release' then
  if held and token == ARGV[3] then call('HDEL', key, 'holder') end
  return {}
elseif verb == 'holding' then
  if not held then return {} end
  return { holder, token, f[3], f[5] }
end
-- Writes fenced by a token: those of anybody but the newest holder are refused.
if not token then return { 'unknown' } end
if not holder or token ~= ARGV[3] then return { 'stale', token } end
local cursor = 4
while cursor <= #ARGV do
  local count = tonumber(ARGV[cursor])
  local done = try(unpack(ARGV, cursor + 1, cursor + count))
  if type(done) == 'table' and done.err then return { 'failed', done.err } end
  cursor = cursor + count + 1
end
return { 'done' }
