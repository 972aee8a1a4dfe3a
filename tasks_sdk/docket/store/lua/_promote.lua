-- scheduled | queued (held until now) → queued: what is due moves to the stream. Needs: _house, _events, _lines, _claim.

local function promote_one(_, key)
  local record = runs .. key
  local r, more = read_record(key)
  local was_held = r[1] == "queued" and more[9]
  if r[1] ~= "scheduled" and not was_held then
    return
  end
  if was_held then
    redis.call("HDEL", record, "held")
  end
  if more[4] ~= "0" and not was_held then
    announce(key, "queued", r[5], "null", "null", "null")
  end
  if not was_held and (more[10] or is_limited(r[3])) then
    redis.call("HSETNX", record, "ticket", int(redis.call("INCR", generations_key)))
  end
  if more[6] and in_line(more[6]) then
    redis.call("SADD", deferred_key, key)
    redis.call("HSET", record, "state", "queued", "deferred", "1")
  elseif was_held or more[3] or more[7] then
    redis.call("HSET", record, "state", "queued", "entry", put_in_line(more[3] and "s" or more[11] or "d", key, r[6]))
  else
    local entry = put_in_line(more[11] or "d", key, r[6])
    r[1], r[2] = "queued", entry
    fresh[entry] = { key = key, record = r, more = more }
  end
end

-- Whatever was promoted and not claimed in the same breath is queued.
local function finish_promotion()
  for entry, item in pairs(fresh) do
    redis.call("HSET", runs .. item.key, "state", "queued", "entry", entry)
  end
end

-- Bounded, because Redis serves nobody else meanwhile: the rest is promoted by the next exchange, at once.
local function promote(most)
  local due = redis.call("ZRANGEBYSCORE", queue_key, "-inf", now_text, "LIMIT", 0, most)
  if #due == 0 then
    return 0
  end
  if #due >= many then
    ask_who_hears(due)
  end
  local promoted = 0
  local done, problem = pcall(function()
    for i, key in ipairs(due) do
      by_itself(promote_one, false, key)
      promoted = i
    end
  end)
  if promoted > 0 then
    redis.call("ZREM", queue_key, unpack(due, 1, promoted))
  end
  if not done then
    error(problem, 0)
  end
  return promoted
end
