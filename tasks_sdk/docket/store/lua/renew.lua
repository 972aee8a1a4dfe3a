-- running → running: the claims of these workers hold for another lease. A worker that was struck off stays off.
local stream_key = KEYS[1]
local prefix = ARGV[1]
local lease_ms = tonumber(ARGV[2])
--@include "_house"

-- One command however many they are: a host whose workers are all at rest does little else. When each was heard of last can be
-- told from when its lease lapses.
local lapse_ms = math.floor(now_us / 1000) + lease_ms
local leases = {}
for i = 3, #ARGV do
  leases[#leases + 1] = lapse_ms
  leases[#leases + 1] = ARGV[i]
end
local all_held = redis.call("ZADD", workers_key, "XX", "CH", unpack(leases)) == #ARGV - 2

local held = {}
for i = 3, #ARGV do
  if all_held or redis.call("ZSCORE", workers_key, ARGV[i]) then
    held[#held + 1] = 1
  else
    held[#held + 1] = 0
    -- It learns that from its next exchange, which may be a while off if it has nothing to do.
    redis.call("PUBLISH", signals_channel .. ":" .. ARGV[i], "look:")
  end
end
return held
