-- failed (dead letter) → nothing, a batch at a time
local stream_key = KEYS[1]
local prefix = ARGV[1]
local request = ARGV[2]
local most = tonumber(ARGV[3])
--@include "_house"
--@include "_once"
--@later "_foreign"
--@later "_dead"

local purged = 0
local keys = {}
for i = 4, #ARGV do
  keys[#keys + 1] = ARGV[i]
end
if #keys == 0 then
  keys = redis.call("ZRANGE", dead_key, 0, most - 1)
end
for _, key in ipairs(keys) do
  if leave_the_dead(key) then
    redis.call("DEL", runs .. key, results .. key)
    purged = purged + 1
  end
end
return answer(purged)
