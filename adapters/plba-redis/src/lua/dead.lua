-- Dead letters of a queue. ARGV: time, settings, verb, and then: 'list', the one before the first, limit; 'get', id;
-- 'retry' or 'drop', ids.
local b, lib = 2, library()
local verb = ARGV[3]
local function fields_of(ref)
  local packed = call('HGET', KEYS[b + 16], ref)
  if not packed then return nil end
  local fields = { 'ref', ref }
  for name, value in pairs(cmsgpack.unpack(packed)) do
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  return fields
end
if verb == 'list' then
  local refs = call('ZRANGEBYLEX', KEYS[b + 17], ARGV[4] == '' and '-' or '(' .. ARGV[4], '+', 'LIMIT', 0, tonumber(ARGV[5]))
  local letters = {}
  for _, ref in ipairs(refs) do letters[#letters + 1] = fields_of(ref) end
  return { letters, #refs > 0 and refs[#refs] or '', #refs }
elseif verb == 'get' then
  local ref = call('HGET', KEYS[b + 18], ARGV[4])
  return ref and fields_of(ref) or {}
end
local count = 0
for k = 4, #ARGV do
  if verb == 'retry' then
    count = count + lib.revive(b, ARGV[k])
  else
    local ref = call('HGET', KEYS[b + 18], ARGV[k])
    if ref then
      local packed = call('HGET', KEYS[b + 16], ref)
      if packed and not lib.settle(b, cmsgpack.unpack(packed)) then
        return redis.error_reply('TRYAGAIN the ledger of the sources is being moved')
      end
      lib.forget(b, ref)
      count = count + 1
    end
  end
end
return count
