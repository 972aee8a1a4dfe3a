-- What an execution holds of its limits, and gives up. Needs: _house; freed, not_begun.
--@exports free_permits, leave_line, stands_in_line, each_line, everybody_waiting
-- A row of `limits` is { kind, name, … }: { "c", name, most at once, on conflict, family }, { "r", name, how many, in so many
-- microseconds, "drop" or "wait" }, { "w", name, cooldown in microseconds }, { "b", name, pause in microseconds, edge }.

local function free_permits(key, permits, entry)
  for _, limit in ipairs(cjson.decode(permits)) do
    local kind, name = limit[1], limit[2]
    if kind == "c" then
      redis.call("SREM", concurrency .. name, key)
      freed.c[name] = true
    elseif kind == "r" and entry then
      local begun = tonumber(redis.call("ZSCORE", rates .. name, entry) or 0)
      if begun >= not_begun then
        redis.call("ZREM", rates .. name, entry)
        freed.r[name] = true
      end
    end
  end
end

-- `waiting` is the kind of its line and the name of the limit: "c:customer_id:1001". Whatever else it would have been
-- admitted by may have been kept for it, so the lines of all its limits are looked at.
local function leave_line(key, waiting, limits)
  redis.call("ZREM", waiting_lines[string.sub(waiting, 1, 1)] .. string.sub(waiting, 3), key)
  for _, limit in ipairs(cjson.decode(limits or "[]")) do
    if freed[limit[1]] then
      freed[limit[1]][limit[2]] = true
    end
  end
end

local function stands_in_line(key, waiting)
  return redis.call("ZSCORE", waiting_lines[string.sub(waiting, 1, 1)] .. string.sub(waiting, 3), key)
end

-- Calls `visit` with every line that somebody may stand in, and the limit that it belongs to.
local function each_line(visit)
  for _, name in ipairs(redis.call("SMEMBERS", limits_key)) do
    visit(waiting_lines.c .. name, "c", name)
  end
  for _, name in ipairs(redis.call("ZRANGE", alarms_key, 0, -1)) do
    visit(waiting_lines.r .. name, "r", name)
  end
end

local function everybody_waiting()
  local waiting = 0
  each_line(function(line)
    waiting = waiting + redis.call("ZCARD", line)
  end)
  return waiting
end
