-- queued (held) → queued (due): rules are lifted, what they held goes back in line, and perhaps a rule is added
local stream_key = KEYS[1]
local prefix = ARGV[1]
local judged_by = ARGV[2]
local func = ARGV[3]
local parameter = ARGV[4]
local operator = ARGV[5]
local hold = ARGV[6]
local value = ARGV[7]
--@include "_house"
--@include "_strikes"

-- Which rules are lifted was found out by somebody who knew other rules: let that be done again.
if rules_version() ~= judged_by then
  return "stale"
end
local released = false
for i = 8, #ARGV do
  redis.call("XDEL", strikes_key, ARGV[i])
  -- By way of the queue, in pieces: put in line one by one, a hundred thousand of them would keep Redis from others.
  local held = held_by .. ARGV[i]
  for start = 0, redis.call("ZCARD", held) - 1, 1000 do
    local piece = redis.call("ZRANGE", held, start, start + 999, "WITHSCORES")
    for j = 1, #piece, 2 do
      piece[j], piece[j + 1] = piece[j + 1], piece[j]
    end
    redis.call("ZADD", queue_key, unpack(piece))
    released = true
  end
  redis.call("DEL", held)
end
if operator ~= "" then
  redis.call("XADD", strikes_key, "*", "function", func, "parameter", parameter, "operator", operator, "hold", hold,
    "value", value)
end
if released then
  redis.call("PUBLISH", signals_channel, "due:" .. now_text)
end
return rules_version()
