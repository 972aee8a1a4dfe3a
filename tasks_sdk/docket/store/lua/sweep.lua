-- running → queued | failed (dead letter): the work of `most` workers whose lease has lapsed, or that has left
local stream_key = KEYS[1]
local prefix = ARGV[1]
local max_crashes = tonumber(ARGV[2])
local most = tonumber(ARGV[3])
local is_thorough = ARGV[4] == "1"
--@include "_house"
--@include "_events"
--@include "_lines"
--@later "_cancel"
--@include "_ahead"
--@include "_hand_over"
--@include "_release"

local handed_over = {}
for _, worker_id in ipairs(redis.call("ZRANGEBYSCORE", workers_key, "-inf", math.floor(now_us / 1000), "LIMIT", 0, most)) do
  handed_over[#handed_over + 1] = hand_over(worker_id, "the lease of its worker lapsed")
end

if not is_thorough then
  look_at_lines()
  return handed_over
end

-- Redis makes a consumer anew for a blocked read that outlives its worker, and delivers to it: what such a ghost was given
-- would be nobody's. What it was given stands in the stream until somebody has settled it, so an empty one has no ghosts.
for _, stream in pairs(lanes) do
  local consumers = redis.pcall("XLEN", stream) == 0 and {} or redis.pcall("XINFO", "CONSUMERS", stream, group)
  for _, consumer in ipairs(consumers.err and {} or consumers) do
    local facts = {}
    for i = 1, #consumer, 2 do
      facts[consumer[i]] = consumer[i + 1]
    end
    if #handed_over < most and not redis.call("ZSCORE", workers_key, facts.name) then
      handed_over[#handed_over + 1] = hand_over(facts.name, "it was delivered to a worker that had left")
    end
  end
end

-- Lines are looked at when something becomes free there. Should that ever have been missed (keys were deleted by hand, say), a
-- few of them are put right each time: a permit whose holder has none on record is nobody's.
local looked_at = 0
for _, name in ipairs(redis.call("SRANDMEMBER", limits_key, 50)) do
  looked_at = looked_at + (gently("SCARD", concurrency .. name) or math.huge)
  if looked_at <= 1000 then
    for _, key in ipairs(redis.call("SMEMBERS", concurrency .. name)) do
      if redis.call("HEXISTS", runs .. key, "permits") == 0 then
        redis.call("SREM", concurrency .. name, key)
      end
    end
  end
  freed.c[name] = true
end
look_at_lines()
if how_many_lines() <= 500 then
  local waiting = add_up_lines()
  if waiting > 0 then
    redis.call("SET", waiters_key, waiting)
  else
    redis.call("DEL", waiters_key)
  end
end
-- Whoever lifted a rule may have been cut short before all that it held was back in line.
release_held(500)
if line_in_trouble and #handed_over == 0 then
  refuse(line_in_trouble)
end
return handed_over
