-- running → running: what a run says of its progress. Refused to whoever does not run it any more.
local stream_key = KEYS[1]
local prefix = ARGV[1]
local key = ARGV[2]
local entry = ARGV[3]
local verb = ARGV[4]
local value = ARGV[5]
local request = ARGV[6]
--@include "_house"
--@include "_events"

local record, hash = runs .. key, progress .. key
local remembered = 32
local r = redis.call("HMGET", record, "state", "entry", "ttl_ms", "progress")
if r[1] ~= "running" or (entry ~= "" and entry ~= r[2]) or r[3] == "0" then
  return false
end
-- The field in the record says that there is a hash to be deleted one day. It holds the latest requests: one that is
-- sent again because its reply was lost counts once.
local known = r[4] or ""
if not string.find(known, request, 1, true) then
  redis.call("HSETNX", hash, "current", "0")
  redis.call("HSETNX", hash, "total", "100")
  if verb == "increment" then
    redis.call("HINCRBY", hash, "current", value)
  elseif verb == "silence" then
    redis.call("HDEL", hash, "message")
  else
    redis.call("HSET", hash, verb, value)
  end
  redis.call("HSET", hash, "updated_at", string.sub(now_moment, 2, -2))
  redis.call("HSET", record, "progress", string.sub(request .. " " .. known, 1, remembered * (#request + 1)))
  redis.call("PUBLISH", hash, progress_event(key, redis.call("HMGET", hash, "current", "total", "message", "updated_at")))
end
return redis.call("HMGET", hash, "current", "total", "message", "updated_at")
