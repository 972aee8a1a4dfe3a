-- The names of one docket's keys, and the moment this script runs. Needs: stream_key, prefix.
-- KEYS carries the stream (all of a docket's keys share its hash slot); the others are derived here and nowhere else.
local group = "docket-workers"
-- What a record without `ttl_ms` means: fifteen minutes is what nearly all ask for (docket/message.py knows it, too).
local usual_ttl_ms = "900000"
local lanes = { d = stream_key, h = stream_key .. ":high", l = stream_key .. ":low", r = stream_key .. ":redelivered",
  s = stream_key .. ":suspects" }
local queue_key = prefix .. ":queue"
local runs = prefix .. ":runs:"
local results = prefix .. ":results:"
local progress = prefix .. ":progress:"
local state_channel = prefix .. ":state:"
local signals_channel = prefix .. ":signals"
local marks_channel = prefix .. ":marks:"
local generations_key = prefix .. ":generations"
local deferred_key = prefix .. ":deferred"
local dead_key = prefix .. ":dead"
local orphans = prefix .. ":orphans:"
local workers_key = prefix .. ":workers"
local worker_hash = prefix .. ":worker:"
local tasks_of = prefix .. ":tasks:"
local ever_known_key = prefix .. ":known"
local timekeeper_key = prefix .. ":timekeeper"
local strikes_key = prefix .. ":strikes"
local held_by = prefix .. ":held:"
local lifted_key = prefix .. ":lifted"
local concurrency = prefix .. ":concurrency:"
local waiting_lines = { c = prefix .. ":waiting:", r = prefix .. ":throttled:" }
local limits_key = prefix .. ":limits"
local maximums_key = prefix .. ":maximums"
local limited_key = prefix .. ":limited"
local alarms_key = prefix .. ":alarms"
local waiters_key = prefix .. ":waiters"
local unasked_key = prefix .. ":unasked"
local rates = prefix .. ":rates:"
local cooldowns = prefix .. ":cooldowns:"
local debounces = prefix .. ":debounces:"

-- A cluster that is moving our slot away refuses a key that is missing here, for it may already be there: in the middle
-- of whatever a script was doing. This one is always missing, so that such a script is refused before it has begun.
if string.sub(prefix, 1, 1) == "{" then
  redis.call("EXISTS", prefix .. ":nowhere")
end

local time = redis.call("TIME")
local now_us = time[1] * 1000000 + time[2]

-- Lua numbers are doubles: exact for microseconds until the year 2255, but tostring() would print 1.7e+15.
local function int(number)
  return string.format("%.0f", number)
end

local now_text = int(now_us)

-- "d:1700000000000-0" → the stream of that lane, and the id within it
local function where(entry)
  return lanes[string.sub(entry, 1, 1)], string.sub(entry, 3)
end
