-- a worker joins the roll, or has learnt more; dead letters that only lacked a worker knowing their task go back in line
-- (failed → queued)
local stream_key = KEYS[1]
local prefix = ARGV[1]
local worker_id = ARGV[2]
local lease_ms = tonumber(ARGV[3])
local host = ARGV[4]
local process = ARGV[5]
local slots = ARGV[6]
local limited_tasks = ARGV[7]
local all_tasks = ARGV[8]
--@include "_house"
--@include "_events"
--@include "_lines"

-- Without a lease it has joined before, and tells what it has learnt since.
if lease_ms then
  for _, stream in pairs(lanes) do
    redis.pcall("XGROUP", "CREATE", stream, group, "0", "MKSTREAM")
  end
  redis.call("ZADD", workers_key, math.floor(now_us / 1000) + lease_ms, worker_id)
elseif not redis.call("ZSCORE", workers_key, worker_id) then
  return { 0, 0 }  -- it has lapsed or left, and is told so elsewhere
end
-- Many names are told in several calls. All of them, as one text, come with the first of these.
if all_tasks ~= "" and not lease_ms then
  redis.call("HSET", worker_hash .. worker_id, "tasks", all_tasks)
elseif all_tasks ~= "" then
  redis.call("HSET", worker_hash .. worker_id, "host", host, "process", process, "concurrency", slots,
    "started_us", now_text, "lease_ms", lease_ms, "tasks", all_tasks)
end
local limited = cjson.decode(limited_tasks)
if #limited > 0 then
  redis.call("SADD", limited_key, unpack(limited))
end
local tasks = {}
for i = 9, #ARGV do
  tasks[#tasks + 1] = ARGV[i]
end
if #tasks > 0 then
  redis.call("SADD", tasks_of .. worker_id, unpack(tasks))
  redis.call("SADD", ever_known_key, unpack(tasks))
end

local left, adopted = 200, 0
if redis.call("EXISTS", dead_key) == 0 then
  return { 0, 0 }
end
for _, name in ipairs(tasks) do
  for _, key in ipairs(redis.call("SPOP", orphans .. name, left)) do
    local r = redis.call("HMGET", runs .. key, "dead", "generation", "when_us", "ttl_ms", "priority")
    if r[1] then
      redis.call("ZREM", dead_key, key)
      redis.call("HDEL", runs .. key, "dead", "error", "completed_us", "crashes", "worker", "started_us")
      redis.call("HSET", runs .. key, "state", "queued", "entry", put_in_line(r[5] or "d", key, r[2]))
      if r[4] ~= "0" then
        announce(key, "queued", r[3], "null", "null", "null")
      end
      adopted = adopted + 1
    end
    left = left - 1
  end
  if left == 0 then
    break
  end
end
return { adopted, left == 0 and 1 or 0 }
