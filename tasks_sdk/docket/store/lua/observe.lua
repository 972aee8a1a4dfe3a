-- any: no transition. What an observer begins with, and a mark among the events: what was heard before it is in here.
local stream_key = KEYS[1]
local prefix = ARGV[1]
local key = ARGV[2]
local observer = ARGV[3]
local mark = ARGV[4]
--@include "_house"
--@include "_events"

local r = redis.call("HMGET", runs .. key, "state", "when_us", "worker", "started_us", "completed_us", "error", "ttl_ms",
  "function", "body")
if not (r[1] and r[8] and r[9]) then
  return { "gone" }
elseif r[7] == "0" then
  return { "unkept" }
end
redis.call("PUBLISH", marks_channel .. observer, mark)
local waiting = r[1] == "scheduled" or r[1] == "queued"
local state
if waiting then
  state = state_event(key, r[1], r[2], "null", "null", "null")
else
  state = state_event(key, r[1], r[2], quoted_name(r[3]), moment(r[4]), moment(r[5]), r[6])
end
return { "live", state,
  progress_event(key, redis.call("HMGET", progress .. key, "current", "total", "message", "updated_at")) }
