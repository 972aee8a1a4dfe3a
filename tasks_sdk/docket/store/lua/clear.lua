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
    take_out(entry)
    if r[6] then
      free_permits(key, r[6], entry)
    end
  end
  redis.call("HSET", record, "state", "cancelled", "completed_us", now_text)
  redis.call("HDEL", record, "entry", "deferred", "held", "waiting")
  if entry then
    redis.call("HDEL", record, "permits")
  end
  if r[3] ~= "0" then
    announce(key, "cancelled", r[4], "null", "null", now_moment)
  end
  if not r[5] then
    let_expire(key, r[3])
  end
  return true
end

local cleared = 0
local function clear(key, entry)
  if cancel_waiting(key, entry) then
    cleared = cleared + 1
  end
end

for _, key in ipairs(redis.call("ZRANGE", queue_key, 0, most - 1)) do
  redis.call("ZREM", queue_key, key)
  clear(key)
end
for _, key in ipairs(redis.call("SPOP", deferred_key, most)) do
  clear(key)
end
local still_waiting = 0
each_line(function(line, kind, name)
  local waiting = redis.call("ZPOPMIN", line, most)
  for i = 1, #waiting, 2 do
    clear(waiting[i])
  end
  freed[kind][name] = true
  still_waiting = still_waiting + redis.call("ZCARD", line)
end)
for _, rule in ipairs(redis.call("XRANGE", strikes_key, "-", "+")) do
  local held = redis.call("ZPOPMIN", held_by .. rule[1], most)
  for i = 1, #held, 2 do
    clear(held[i])
  end
  still_waiting = still_waiting + redis.call("ZCARD", held_by .. rule[1])
end
-- Running entries stay in the stream, so the way through it is by cursor: "d:ID" is where the next batch begins.
local lane, from = string.sub(cursor, 1, 1), string.sub(cursor, 3)
local items = redis.call("XRANGE", lanes[lane], from == "" and "-" or "(" .. from, "+", "COUNT", most)
for _, item in ipairs(items) do
  local key = key_of(item[2])
  if key then
    clear(key, lane .. ":" .. item[1])
  end
end
local following = { d = "h:", h = "l:", l = "r:", r = "s:", s = "" }
local beyond = #items == most and lane .. ":" .. items[#items][1] or following[lane]
if beyond == "" and redis.call("ZCARD", queue_key) + redis.call("SCARD", deferred_key) + still_waiting > 0 then
  beyond = "s:"
end
look_at_lines()
return answer({ cleared, beyond })
