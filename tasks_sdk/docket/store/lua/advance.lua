-- scheduled → scheduled, `by_us` earlier: for tests, which have no time to wait. All at once, however many there are: a
-- worker that promotes meanwhile sees them either before or after.
local stream_key = KEYS[1]
local prefix = ARGV[1]
local by_us = tonumber(ARGV[2])
--@include "_house"

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
if #parked > 0 then
  redis.call("PUBLISH", signals_channel, "due:" .. earlier(parked[2]))
end
return #parked / 2
