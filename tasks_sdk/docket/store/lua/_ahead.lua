-- What waits for a permit, or for its time. Needs: _house, _events, _lines, _cancel.
local asked_at_once = 8
-- And so many in all lines together: Redis serves nobody else meanwhile. Lines that one script has no time for are looked at
-- by the next exchange, whoever's it is.
local asks_left = 200
local told_of_unasked = false

local function leave_unasked(kind, name)
  redis.call("SADD", unasked_key, kind .. ":" .. name)
  if not told_of_unasked then
    told_of_unasked = true
    redis.call("PUBLISH", signals_channel, "due:" .. now_text)
  end
end
-- What kept a line from being looked at, in a sentence: for whoever can tell somebody.
local line_in_trouble
--@later "_admission"

-- `thorough`: nobody else may ever come to look at what this look leaves unasked.
local function look_at_lines(thorough)
  while next(freed.c) or next(freed.r) do
    local kind = next(freed.c) and "c" or "r"
    local name = next(freed[kind])
    freed[kind][name] = nil
    if asks_left > 0 then
      look_at_line(kind, name, thorough)
    else
      leave_unasked(kind, name)
    end
  end
end

local function admit_in_time()
  for _, line in ipairs(redis.call("SPOP", unasked_key, 20)) do
    freed[string.sub(line, 1, 1)][string.sub(line, 3)] = true
  end
  look_at_lines(true)
  for _, name in ipairs(redis.call("ZRANGEBYSCORE", alarms_key, "-inf", now_text, "LIMIT", 0, 20)) do
    redis.call("ZREM", alarms_key, name)
    look_at_line("r", name)
  end
end

-- When somebody must look again, be it at the future or at a line; nil: nothing waits for time to pass.
local function earliest_due()
  local future = tonumber(redis.call("ZRANGE", queue_key, 0, 0, "WITHSCORES")[2])
  local alarm = tonumber(redis.call("ZRANGE", alarms_key, 0, 0, "WITHSCORES")[2])
  return future and alarm and math.min(future, alarm) or future or alarm
end
