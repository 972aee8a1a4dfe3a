-- nothing | ended → scheduled | queued (add, seed); scheduled | queued | running → scheduled | queued under a new generation
-- (replace, or add from inside the running execution itself)
local stream_key = KEYS[1]
local prefix = ARGV[1]
local judged_by = ARGV[2]
local stride = 10
--@include "_house"
--@include "_events"
--@include "_lines"
--@later "_cancel"
--@include "_ahead"
--@include "_strikes"

-- Whoever asks has judged the calls by the rules it knows of: others may be in effect, and then it must judge again.
if rules_version() ~= judged_by then
  return { "stale" }
end

-- A record can outlive its place in line (somebody trimmed the stream): then the key must not stay taken for ever.
local function is_live(key, state, entry, deferred, held, waiting)
  if state == "scheduled" then
    return redis.call("ZSCORE", queue_key, key)
  end
  return (state == "queued" and (deferred or (held and is_held(key, held))
      or (waiting and stands_in_line(key, waiting)) or (entry and in_line(entry))))
    or (state == "running" and entry and in_line(entry))
end

-- Workers sleep until the earliest due time they know of: only an earlier one is news. Most calls are due at once and wait for
-- nothing, and then nobody has to know.
local looked_ahead, before = false, nil
local function look_ahead()
  if not looked_ahead then
    looked_ahead, before = true, earliest_due()
  end
end

local function schedule(verb, key, name, body, when_us, ttl_ms, inside, request, limits, lane)
  local record = runs .. key
  local now = when_us == "" or tonumber(when_us) <= now_us
  if not now or limits ~= "" then
    look_ahead()
  end
  local old = redis.call("HMGET", record, "state", "entry", "generation", "busy", "stop", "deferred", "dead", "when_us",
    "request", "held", "progress", "worker", "busy_worker", "waiting", "permits", "limits")
  local state, busy, stop, busy_worker = old[1], old[4], old[5], old[13]
  if state and old[9] == request then
    return { "scheduled", old[3], state, old[8] }  -- asked again because our reply was lost
  elseif state and is_live(key, state, old[2], old[6], old[10], old[14]) then
    local successor = state == "running" and inside ~= "" and inside == old[2]
    if verb ~= "replace" and not successor then
      return { "already", old[3], state, old[8] }
    end
    check_ours()
    if state == "scheduled" then
      redis.call("ZREM", queue_key, key)
    elseif state == "running" then
      busy, busy_worker = old[2], old[12]
    elseif old[6] then
      redis.call("SREM", deferred_key, key)
    elseif old[10] then
      leave_hold(key, old[10])
    elseif old[14] then
      leave_line(key, old[14], old[16])
    else
      take_out(old[2])
    end
  elseif state and old[7] then
    if verb == "seed" then
      return { "already", old[3], state, old[8] }  -- nobody has asked for it, so nobody has decided about the dead letter
    end
    check_ours()
    leave_the_dead(key)
  end
  if busy and not in_line(busy) then
    busy, stop = false, false
  end
  -- Permits belong to a body: to the one that still runs, or to the call that would have been next and is no more.
  local permits = old[15]
  if permits and not busy then
    free_permits(key, permits, old[2])
  end
  if old[11] then
    forget_progress(key)
  end
  if state then
    redis.call("DEL", record, results .. key)
  end

  local generation = int(redis.call("INCR", generations_key))
  local fields = { "function", name, "body", body, "generation", generation, "request", request }
  local function set(field, value)
    fields[#fields + 1] = field
    fields[#fields + 1] = value
  end
  if now then
    state = "queued"
    when_us = when_us == "" and now_text or when_us
    if busy then
      set("deferred", "1")
      redis.call("SADD", deferred_key, key)
    elseif limits == "" or not line_for(key, limits, generation, lane) then
      set("entry", put_in_line(lane == "" and "d" or lane, key, generation))
    end
  else
    state = "scheduled"
    redis.call("ZADD", queue_key, when_us, key)
  end
  set("state", state)
  set("when_us", when_us)
  if ttl_ms ~= usual_ttl_ms then set("ttl_ms", ttl_ms) end
  local nonce = nonce_of(body)
  if nonce then set("nonce", nonce) end
  if busy then
    set("busy", busy)
    set("busy_worker", busy_worker or "")
    if permits then set("permits", permits) end
  end
  if limits ~= "" then set("limits", limits) end
  if lane ~= "" then set("priority", lane) end
  if stop then set("stop", stop) end
  redis.call("HSET", record, unpack(fields))
  if ttl_ms ~= "0" then
    announce(key, state, when_us, "null", "null", "null")
  end
  return { "scheduled", generation, state, when_us }
end

if #ARGV >= 2 + many * stride then
  local keys = {}
  for i = 3, #ARGV, stride do
    keys[#keys + 1] = ARGV[i + 1]
  end
  ask_who_hears(keys)
end
local replies = {}
for i = 3, #ARGV, stride do
  -- One call that cannot be scheduled (its key holds something foreign) does not take the batch with it.
  local done, reply = pcall(schedule, unpack(ARGV, i, i + stride - 1))
  local problem = not done and (type(reply) == "table" and reply.err or tostring(reply))
  -- But a server that takes no writes at all takes none of the batch: nobody may think that these calls are at fault.
  if problem and (string.find(problem, "READONLY ", 1, true) or string.find(problem, "NOREPLICAS ", 1, true)) then
    error(problem)
  end
  replies[#replies + 1] = done and reply or { "failed", problem }
end
look_at_lines()
local after = looked_ahead and earliest_due()
if after and (not before or after < before) then
  redis.call("PUBLISH", signals_channel, "due:" .. int(after))
end
return replies
