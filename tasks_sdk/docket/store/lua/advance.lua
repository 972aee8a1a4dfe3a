-- scheduled → scheduled, `by_us` earlier: for tests, which have no time to wait. All at once, however many there are: a
-- worker that promotes meanwhile sees them either before or after.
local stream_key = KEYS[1]
local prefix = ARGV[1]
local request = ARGV[2]
local by_us = tonumber(ARGV[3])
--@include "_house"
--@include "_once"

local function earlier(due)
  return int(math.max(0, tonumber(due) - by_us))
end

local parked = redis.call("ZRANGE", queue_key, 0, -1, "WITHSCORES")
for i = 1, #parked, 2 do
  local key, due = parked[i], earlier(parked[i + 1])
  redis.call("ZADD", queue_key, due, key)
  if redis.call("HGET", runs .. key, "state") == "scheduled" then
    redis.call("HSET", runs .. key, "when_us", due)
  end
end

-- Limits that wait for time to pass: the starts in their windows are as much older, and what cools down has less to go.
for _, name in ipairs(redis.call("ZRANGE", alarms_key, 0, -1)) do
  redis.call("ZINCRBY", alarms_key, -by_us, name)
end
local literally = string.gsub(prefix, "[%*%?%[%]\\\\]", "\\%0")
-- A start that has not begun has a moment in the far future, and keeps it; what holds until then is noted below zero.
for _, window in ipairs(redis.call("KEYS", literally .. ":rates:*")) do
  local log = redis.call("ZRANGE", window, 0, -1, "WITHSCORES")
  for i = 1, #log, 2 do
    local moment = tonumber(log[i + 1])
    if moment >= 0 and moment <= now_us then
      redis.call("ZADD", window, earlier(moment), log[i])
    elseif moment < 0 then
      redis.call("ZADD", window, int(math.min(-1, moment + by_us)), log[i])
    end
  end
end
for _, kind in ipairs({ ":cooldowns:*", ":debounces:*" }) do
  for _, key in ipairs(redis.call("KEYS", literally .. kind)) do
    local generation, due, of = string.match(redis.call("GET", key), "^(%d+):(%d+):(.*)$")
    if due then
      redis.call("SET", key, generation .. ":" .. earlier(due) .. ":" .. of, "KEEPTTL")
    end
    redis.call("PEXPIRE", key, int(redis.call("PTTL", key) - by_us / 1000))
  end
end
if #parked > 0 or redis.call("EXISTS", alarms_key) == 1 then
  redis.call("PUBLISH", signals_channel, "due:" .. (earlier(parked[2] or now_us)))
end
return answer(#parked / 2)
