-- running → queued | failed (dead letter): the work of every worker whose lease has lapsed
local stream_key = KEYS[1]
local prefix = ARGV[1]
local max_crashes = tonumber(ARGV[2])
--@include "_house"
--@include "_events"
--@include "_lines"
--@include "_hand_over"

local handed_over = {}
for _, worker_id in ipairs(redis.call("ZRANGEBYSCORE", workers_key, "-inf", math.floor(now_us / 1000))) do
  handed_over[#handed_over + 1] = hand_over(worker_id, "the lease of its worker lapsed")
end
return handed_over
