-- no transition: a docket that nobody has used yet is split, for good; replies into how many partitions it is split
local stream_key = KEYS[1]
local prefix = ARGV[1]
local partitions = ARGV[2]
--@include "_house"

local partitions_key = prefix .. ":partitions"
local known = redis.call("GET", partitions_key)
if known then
  return tonumber(known)
end
if redis.call("EXISTS", generations_key, ever_known_key, strikes_key) > 0 then
  return 1
end
redis.call("SET", partitions_key, partitions)
-- Whoever takes it for undivided knows of no rules; so nothing that it asks for is done before it has read this.
redis.call("XADD", strikes_key, "*", "partitions", partitions)
return tonumber(partitions)
