-- Publishes tasks to any number of queues, all or none.
-- ARGV: time, settings, capacity, bytes, number of queues; then for each: count, how many are named, bytes, whether all are
-- plain; ids; and for each task its data, or its data, delay and extras.
local capacity, room = tonumber(ARGV[3]), tonumber(ARGV[4])
local cursor = 6
local plans = {}
for j = 1, tonumber(ARGV[5]) do
  local b = 2 + 21 * (j - 1)
  local count, named, bytes, plain = tonumber(ARGV[cursor]), tonumber(ARGV[cursor + 1]), tonumber(ARGV[cursor + 2]), ARGV[cursor + 3] == '1'
  local known
  local from = cursor + 4
  for first = from, from + named - 1, 4000 do
    local members = call('SMISMEMBER', KEYS[b + 19], unpack(ARGV, first, math.min(first + 3999, from + named - 1)))
    for k = 1, #members do
      if members[k] == 1 then
        known = known or {}
        known[ARGV[first + k - 1]] = true
      end
    end
  end
  local tasks = from + named
  cursor = tasks + count * (plain and 1 or 3)
  local fresh = count
  if known then for _ in pairs(known) do fresh = fresh - 1 end end
  if fresh > 0 then
    local there = call('XLEN', KEYS[b + 1]) + call('XLEN', KEYS[b + 2]) + call('XLEN', KEYS[b + 3]) + call('XLEN', KEYS[b + 4])
      + call('HLEN', KEYS[b + 5])
    if there > 0 then
      if there + fresh > capacity then return { 'full', j } end
      if tonumber(call('HGET', KEYS[b + 20], 'bytes') or 0) + bytes > room then return { 'full', j } end
    else
      call('HSET', KEYS[b + 20], 'bytes', 0)
    end
  end
  plans[j] = { b, count, named, bytes, plain, known, from, tasks, fresh }
end

local there = {}
for j, plan in ipairs(plans) do
  local b, count, named, bytes, plain, known, from, tasks, fresh = unpack(plan, 1, 9)
  if not plain then
    for k = 0, count - 1 do
      local at = tasks + k * 3
      local id = library().publish(b, ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2])
      if id then
        there[#there + 1] = j
        there[#there + 1] = k
        there[#there + 1] = id
      end
    end
  elseif fresh > 0 then
    local added = 0
    for first = from, from + named - 1, 4000 do
      added = added + call('SADD', KEYS[b + 19], unpack(ARGV, first, math.min(first + 3999, from + named - 1)))
    end
    -- Fewer are new than were sent: some were known, or come twice in this batch.
    local seen = added < named and (known or {})
    local high, normal, low = KEYS[b + 1], KEYS[b + 2], KEYS[b + 3]
    local since = ARGV[1] ~= '' and string.format('%.3f', now)
    fresh = 0
    for at = tasks, tasks + count - 1 do
      local data = ARGV[at]
      local skip = false
      if seen then
        local record = { d = data }
        if library().named(record) then
          local id = library().id(record)
          skip = seen[id]
          seen[id] = true
        end
        if skip then bytes = bytes - #data end
      end
      if not skip then
        fresh = fresh + 1
        local class = string.byte(data, 2)
        local key = class == 1 and normal or class == 0 and high or low
        if since then
          call('XADD', key, '*', 'd', data, 'a', since)
        else
          call('XADD', key, '*', 'd', data)
        end
      end
    end
    if call('HINCRBY', KEYS[b + 20], 'published', fresh) == fresh then
      call('SADD', KEYS[2], string.match(KEYS[b + 20], ':q:(.*):c$'))
    end
    call('HINCRBY', KEYS[b + 20], 'bytes', bytes)
    if call('EXISTS', KEYS[b + 21]) == 0 then call('RPUSH', KEYS[b + 21], '1') end
  end
end
return { 'ok', string.format('%.3f', now), there }
