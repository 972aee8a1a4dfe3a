-- failed (dead letter) → queued, with a clean record
local stream_key = KEYS[1]
local prefix = ARGV[1]
local request = ARGV[2]
local key = ARGV[3]
--@include "_house"
--@include "_once"
--@include "_events"
--@include "_lines"

local record = runs .. key
local r = redis.call("HMGET", record, "dead", "generation", "function", "when_us", "ttl_ms", "priority")
if not r[1] or r[3] == "" then
  return 0
end
check_ours()
leave_the_dead(key)
redis.call("HDEL", record, "dead", "error", "completed_us", "crashes", "worker", "started_us", "attempt", "ticket", "passed")
redis.call("HSET", record, "state", "queued", "when_us", now_text, "entry", put_in_line(r[6] or "d", key, r[2]))
if r[5] ~= "0" then
  announce(key, "queued", now_text, "null", "null", "null")
end
return answer(1)
