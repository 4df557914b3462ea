-- Publishes tasks to any number of queues, all or none.
-- ARGV: time, settings, capacity, bytes, number of queues; then for each: count, how many are named, bytes, and in how many
-- units plain tasks come, or nothing; ids; and the data of each unit (a task, or a pack), or each task's data, delay and
-- extras.
local capacity, room = tonumber(ARGV[3]), tonumber(ARGV[4])
local cursor = 6
local plans = {}
for j = 1, tonumber(ARGV[5]) do
  local b = 2 + 23 * (j - 1)
  local count, named, bytes, units = tonumber(ARGV[cursor]), tonumber(ARGV[cursor + 1]), tonumber(ARGV[cursor + 2]), tonumber(ARGV[cursor + 3])
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
  cursor = tasks + (units or count * 3)
  local fresh = count
  if known then for _ in pairs(known) do fresh = fresh - 1 end end
  local there = 0
  if fresh > 0 then
    there = call('XLEN', KEYS[b + 1]) + call('XLEN', KEYS[b + 2]) + call('XLEN', KEYS[b + 3]) + call('XLEN', KEYS[b + 4])
      + call('HLEN', KEYS[b + 5])
    if there > 0 then
      local sums = call('HMGET', KEYS[b + 20], 'bytes', 'px', 'hx')
      local packed = math.max(0, tonumber(sums[2] or 0)) + math.max(0, tonumber(sums[3] or 0))
      if there + packed + fresh > capacity then return { 'full', j } end
      if tonumber(sums[1] or 0) + bytes > room then return { 'full', j } end
    else
      call('HSET', KEYS[b + 20], 'bytes', 0, 'px', 0, 'hx', 0)
    end
  end
  plans[j] = { b, count, named, bytes, units, known, from, tasks, fresh, there }
end

-- Appends plain tasks, but those whose ids are known already or come twice; gives how many, their bytes, and how many of
-- them are beyond the number of entries.
local function append(b, first, last, seen)
  local high, normal, low = KEYS[b + 1], KEYS[b + 2], KEYS[b + 3]
  local since = ARGV[1] ~= '' and string.format('%.3f', now)
  local entries, packed, bytes = 0, 0, 0
  local function add(data)
    local version, class = string.byte(data, 1, 2)
    local key = (class == 1 or version == 2) and normal or class == 0 and high or low
    if since then
      call('XADD', key, '*', 'd', data, 'a', since)
    else
      call('XADD', key, '*', 'd', data)
    end
    entries = entries + 1
    bytes = bytes + #data
  end
  for at = first, last do
    local data = ARGV[at]
    if not seen then
      add(data)
      local version, count = string.byte(data, 1, 2)
      if version == 2 then packed = packed + count - 1 end
    else
      for _, member in ipairs(library().members(data) or { data }) do
        local record = { d = member }
        local id = library().named(record) and library().id(record)
        if not (id and seen[id]) then add(member) end
        if id then seen[id] = true end
      end
    end
  end
  return entries + packed, bytes, packed
end

local there = {}
for j, plan in ipairs(plans) do
  local b, count, named, bytes, units, known, from, tasks, fresh, before = unpack(plan, 1, 10)
  if not units then
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
    local seen = added < named and (known or {}) or nil
    local appended, size, packed = append(b, tasks, tasks + units - 1, seen)
    local special = packed > 0
    if packed > 0 then call('HINCRBY', KEYS[b + 20], 'px', packed) end
    if call('HINCRBY', KEYS[b + 20], 'published', appended) == appended then
      call('SADD', KEYS[2], string.match(KEYS[b + 20], ':q:(.*):c$'))
      special = special or before > 0
    end
    if special then call('HSET', KEYS[b + 20], 'special', '1') end
    call('HINCRBY', KEYS[b + 20], 'bytes', seen and size or bytes)
    if call('EXISTS', KEYS[b + 21]) == 0 then call('RPUSH', KEYS[b + 21], '1') end
  end
end
return { 'ok', string.format('%.3f', now), there }
