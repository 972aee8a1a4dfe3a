-- queued (waiting) → queued (admitted): a limit is given another maximum, or the one in the code again, and lets in whom it can
local stream_key = KEYS[1]
local prefix = ARGV[1]
local request = ARGV[2]
local name = ARGV[3]
local most = ARGV[4]
--@include "_house"
--@include "_once"
--@include "_events"
--@include "_lines"
--@later "_cancel"
--@include "_ahead"

local before = redis.call("HGET", maximums_key, name)
if most == "" then
  redis.call("HDEL", maximums_key, name)
else
  redis.call("HSET", maximums_key, name, most)
end
freed.c[name] = true
look_at_lines(true)
return answer(before)
