-- What an execution holds of its limits, and gives up. Needs: _house; freed, not_begun.
--@exports free_permits, join_line, quit_line, count_out, leave_line, stands_in_line, how_many_lines, add_up_lines, everybody_waiting
-- A row of `limits` is { kind, name, … }: { "c", name, most at once, on conflict, family }, { "r", name, how many, in so many
-- microseconds, "drop" or "wait" }, { "w", name, cooldown in microseconds }, { "b", name, pause in microseconds, edge }.

local function free_permits(key, permits, entry)
  for _, limit in ipairs(cjson.decode(permits)) do
    local kind, name = limit[1], limit[2]
    if kind == "c" then
      gently("SREM", concurrency .. name, key)
      freed.c[name] = true
    elseif kind == "r" and entry then
      local begun = tonumber(gently("ZSCORE", rates .. name, entry) or 0)
      if begun >= not_begun then
        gently("ZREM", rates .. name, entry)
        freed.r[name] = true
      end
    end
  end
end

-- There may be a line for each customer: how many stand in all of them is counted as they come and go.
local function join_line(line, place, key)
  redis.call("INCRBY", waiters_key, redis.call("ZADD", line, place, key))
end

local function count_out(gone)
  if gone > 0 and redis.call("DECRBY", waiters_key, gone) <= 0 then
    redis.call("DEL", waiters_key)
  end
end

local function quit_line(line, key)
  count_out(gently("ZREM", line, key) or 0)
end

-- `waiting` is the kind of its line and the name of the limit: "c:customer_id:1001". Whatever else it would have been
-- admitted by may have been kept for it, so the lines of all its limits are looked at.
local function leave_line(key, waiting, limits)
  quit_line(waiting_lines[string.sub(waiting, 1, 1)] .. string.sub(waiting, 3), key)
  for _, limit in ipairs(cjson.decode(limits or "[]")) do
    if freed[limit[1]] then
      freed[limit[1]][limit[2]] = true
    end
  end
end

local function stands_in_line(key, waiting)
  return gently("ZSCORE", waiting_lines[string.sub(waiting, 1, 1)] .. string.sub(waiting, 3), key)
end

local function how_many_lines()
  return redis.call("SCARD", limits_key) + redis.call("ZCARD", alarms_key)
end

-- All lines added up, which takes the longer the more there are.
local function add_up_lines()
  local waiting = 0
  for _, name in ipairs(redis.call("SMEMBERS", limits_key)) do
    waiting = waiting + (gently("ZCARD", waiting_lines.c .. name) or 0)
  end
  for _, name in ipairs(redis.call("ZRANGE", alarms_key, 0, -1)) do
    waiting = waiting + (gently("ZCARD", waiting_lines.r .. name) or 0)
  end
  return waiting
end

local function everybody_waiting()
  return how_many_lines() <= 100 and add_up_lines() or tonumber(redis.call("GET", waiters_key) or 0)
end
