-- running → running: the claims of these workers hold for another lease. A worker that was struck off stays off.
local stream_key = KEYS[1]
local prefix = ARGV[1]
local lease_ms = tonumber(ARGV[2])
--@include "_house"

-- Two commands however many they are: a host whose workers are all at rest does little else. When each was heard of last can
-- be told from when its lease lapses.
local worker_ids = {}
for i = 3, #ARGV do
  worker_ids[#worker_ids + 1] = ARGV[i]
end
local lapse_ms = math.floor(now_us / 1000) + lease_ms
local leases, held = {}, {}
for i, lapsing in ipairs(redis.call("ZMSCORE", workers_key, unpack(worker_ids))) do
  held[i] = lapsing and 1 or 0
  if lapsing then
    leases[#leases + 1], leases[#leases + 2] = lapse_ms, worker_ids[i]
  else
    -- It learns that from its next exchange, which may be a while off if it has nothing to do.
    redis.call("PUBLISH", signals_channel .. ":" .. worker_ids[i], "look:")
  end
end
if #leases > 0 then
  redis.call("ZADD", workers_key, unpack(leases))
end
return held
