-- scheduled | queued (held until now) → queued: what is due moves to the stream. Needs: _house, _events, _lines.

local function promote_one(_, key)
  local record = runs .. key
  local r = redis.call("HMGET", record, "state", "generation", "busy", "when_us", "ttl_ms", "held", "crashes")
  local was_held = r[1] == "queued" and r[6]
  if r[1] ~= "scheduled" and not was_held then
    return
  end
  if was_held then
    redis.call("HDEL", record, "held")
  end
  if r[3] and in_line(r[3]) then
    redis.call("SADD", deferred_key, key)
    redis.call("HSET", record, "state", "queued", "deferred", "1")
  else
    redis.call("HSET", record, "state", "queued", "entry", put_in_line(r[7] and "s" or "d", key, r[2]))
  end
  if r[5] ~= "0" and not was_held then
    announce(key, "queued", r[4], "null", "null", "null")
  end
end

-- Bounded, because Redis serves nobody else meanwhile: the rest is promoted by the next exchange, at once.
local function promote(most)
  local due = redis.call("ZRANGEBYSCORE", queue_key, "-inf", now_text, "LIMIT", 0, most)
  if #due == 0 then
    return 0
  end
  redis.call("ZREM", queue_key, unpack(due))
  for _, key in ipairs(due) do
    by_itself(promote_one, false, key)
  end
  return #due
end
