-- scheduled | queued → cancelled, a batch at a time; running work is left alone
local stream_key = KEYS[1]
local prefix = ARGV[1]
local request = ARGV[2]
local cursor = ARGV[3]
local most = tonumber(ARGV[4])
--@include "_house"
--@include "_once"
--@include "_events"
--@include "_lines"
--@later "_cancel"
--@include "_ahead"

-- How many more this batch may cancel: Redis serves nobody else meanwhile.
local left = most
-- And how many lines it may pass: there may be one for each customer, and nobody in most of them.
local lines_left = 1000
local cleared = 0
local taken_out = { d = {}, h = {}, l = {}, r = {}, s = {} }

-- → whether it was cancelled
local function cancel_waiting(key, entry)
  local record = runs .. key
  local r = redis.call("HMGET", record, "state", "entry", "ttl_ms", "when_us", "busy", "permits")
  if entry and r[2] ~= entry then
    return false
  elseif r[1] ~= "queued" and r[1] ~= "scheduled" then
    return false
  end
  if entry then
    local lane = taken_out[string.sub(entry, 1, 1)]
    lane[#lane + 1] = string.sub(entry, 3)
    if r[6] then
      free_permits(key, r[6], entry)
      redis.call("HDEL", record, "permits")
    end
  end
  if not r[5] and r[3] == "0" then
    redis.call("DEL", record)
  else
    redis.call("HSET", record, "state", "cancelled", "completed_us", now_text)
    redis.call("HDEL", record, "entry", "deferred", "held", "waiting")
    if not r[5] then
      redis.call("PEXPIRE", record, r[3] or usual_ttl_ms)
    end
  end
  if r[3] ~= "0" then
    announce(key, "cancelled", r[4], "null", "null", now_moment)
  end
  return true
end

local function clear(key, entry)
  left = left - 1
  if cancel_waiting(key, entry) then
    cleared = cleared + 1
  end
end

-- The foremost of a sorted set, as many as this batch may.
local function clear_foremost(set)
  local foremost = gently("ZPOPMIN", set, left) or {}
  for i = 1, #foremost, 2 do
    clear(foremost[i])
  end
  return #foremost / 2
end

local function clear_line(kind, name)
  local gone = clear_foremost(waiting_lines[kind] .. name)
  count_out(gone)
  if gone > 0 then
    freed[kind][name] = true
  end
end

local function clear_held(rule)
  if left > 0 then
    clear_foremost(held_by .. rule)
  end
end

-- A page of the names of limits, and the line of each. → where the next page begins; nil: this was the last one
local function clear_lines(kind, names, next_page, from)
  lines_left = lines_left - #names
  for _, name in ipairs(names) do
    clear_line(kind, name)
    if left <= 0 then
      return from
    end
  end
  return next_page ~= "0" and next_page or nil
end

-- Each place gives what waits there, as much as this batch may cancel, and says where the next batch goes on in it; nil: it is
-- done with.
local places = {
  c = function(from)
    local found = redis.call("SSCAN", limits_key, from == "" and "0" or from, "COUNT", 200)
    return clear_lines("c", found[2], found[1], from)
  end,
  t = function(from)
    local found = redis.call("ZSCAN", alarms_key, from == "" and "0" or from, "COUNT", 200)
    local names = {}
    for i = 1, #found[2], 2 do
      names[#names + 1] = found[2][i]
    end
    return clear_lines("r", names, found[1], from)
  end,
  x = function()
    for _, rule in ipairs(redis.call("XRANGE", strikes_key, "-", "+")) do
      clear_held(rule[1])
    end
    for _, rule in ipairs(redis.call("SMEMBERS", lifted_key)) do
      clear_held(rule)
      if redis.call("EXISTS", held_by .. rule) == 0 then
        redis.call("SREM", lifted_key, rule)
      end
    end
    return left <= 0 and "" or nil
  end,
  p = function()
    for _, key in ipairs(redis.call("SPOP", deferred_key, left)) do
      clear(key)
    end
    return left <= 0 and "" or nil
  end,
  q = function()
    clear_foremost(queue_key)
    return left <= 0 and "" or nil
  end,
}

-- Running entries stay in the stream, so the way through it is by cursor: "d:ID" is behind where the next batch begins.
for lane, stream in pairs(lanes) do
  places[lane] = function(from)
    local items = redis.call("XRANGE", stream, from == "" and "-" or "(" .. from, "+", "COUNT", left)
    for _, item in ipairs(items) do
      local key = key_of(item[2])
      if key then
        clear(key, lane .. ":" .. item[1])
      else
        left = left - 1
      end
    end
    return left <= 0 and items[#items][1] or nil
  end
end

check_ours()
local following = { c = "t", t = "x", x = "p", p = "q", q = "d", d = "h", h = "l", l = "r", r = "s" }
local place, from = string.match(cursor, "^(%a):(.*)$")
while place and left > 0 and lines_left > 0 do
  from = places[place](from)
  if not from then
    place, from = following[place], ""
  end
end
for lane, ids in pairs(taken_out) do
  if #ids > 0 then
    redis.call("XACK", lanes[lane], group, unpack(ids))
    redis.call("XDEL", lanes[lane], unpack(ids))
  end
end
look_at_lines()
return answer({ cleared, place and place .. ":" .. from or "" })
