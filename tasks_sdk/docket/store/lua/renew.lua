-- running → running: the claims of these workers hold for another lease. A worker that was struck off stays off.
local stream_key = KEYS[1]
local prefix = ARGV[1]
local lease_ms = tonumber(ARGV[2])
--@include "_house"

local lapse_ms = math.floor(now_us / 1000) + lease_ms
local held = {}
for i = 3, #ARGV do
  if redis.call("ZSCORE", workers_key, ARGV[i]) then
    redis.call("ZADD", workers_key, lapse_ms, ARGV[i])
    redis.call("HSET", worker_hash .. ARGV[i], "seen_us", now_text)
    held[#held + 1] = 1
  else
    held[#held + 1] = 0
  end
end
return held
