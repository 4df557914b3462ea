-- The consumers of a queue. ARGV: time, settings, and then names of consumers that are known to be gone: what they hold is
-- lost to them, at most 100 entries of each, and they are removed once they hold nothing.
local b, lib = 2, library()
local gen = call('HGET', KEYS[22], 'gen')
local names, left = {}, 0
if gen then
  for k = 3, #ARGV do
    for s = 1, 4 do
      local page = try('XPENDING', KEYS[b + s], gen, '-', '+', 100, ARGV[k])
      if not page.err then
        for _, pending in ipairs(page) do lib.lose(b, s, gen, pending[1], '"its process ended while the task was in hand"') end
        if #page >= 100 then left = left + 1 end
      end
    end
  end
  local gone = {}
  for k = 3, #ARGV do gone[ARGV[k]] = true end
  for s = 1, 4 do
    local consumers = try('XINFO', 'CONSUMERS', KEYS[b + s], gen)
    if not consumers.err then
      for _, consumer in ipairs(consumers) do
        local fact = {}
        for k = 1, #consumer, 2 do fact[consumer[k]] = consumer[k + 1] end
        local idle = math.max(3600000, 10 * lib.lease_of(fact.name))
        if fact.pending == 0 and (gone[fact.name] or fact.idle > idle) then
          call('XGROUP', 'DELCONSUMER', KEYS[b + s], gen, fact.name)
        else
          names[#names + 1] = fact.name
        end
      end
    end
  end
end
return { gen or '', string.format('%.3f', now), names, left, lib.notes() }
