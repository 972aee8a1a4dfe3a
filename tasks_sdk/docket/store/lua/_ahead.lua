-- What waits for a permit, or for its time. Needs: _house, _events, _lines, _cancel.
local asked_at_once = 8
--@later "_admission"

local function look_at_lines()
  while next(freed.c) or next(freed.r) do
    local kind = next(freed.c) and "c" or "r"
    local name = next(freed[kind])
    freed[kind][name] = nil
    look_at_line(kind, name)
  end
end

local function admit_in_time()
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
