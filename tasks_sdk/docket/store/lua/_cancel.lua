-- scheduled | queued | running | failed (dead letter that only lacks a worker) → cancelled. Needs: _house, _events, _lines.
--@exports cancel_execution

-- → the state before; of what waits among the dead letters for a worker that knows its task: queued
local function cancel_execution(key, reason)
  local record = runs .. key
  local r = redis.call("HMGET", record, "state", "entry", "worker", "deferred", "ttl_ms", "when_us", "started_us", "busy",
    "held", "progress", "stop", "busy_worker", "waiting", "limits", "permits", "dead")
  local state = r[1]
  if state == "scheduled" then
    redis.call("ZREM", queue_key, key)
  elseif state == "queued" then
    if r[4] then
      redis.call("SREM", deferred_key, key)
      redis.call("HDEL", record, "deferred")
    elseif r[9] then
      leave_hold(key, r[9])
      redis.call("HDEL", record, "held")
    elseif r[13] then
      leave_line(key, r[13], r[14])
      redis.call("HDEL", record, "waiting")
    elseif r[2] then
      take_out(r[2])
      if r[15] then
        free_permits(key, r[15], r[2])
        redis.call("HDEL", record, "permits")
      end
    end
  elseif state == "failed" and r[16] and is_orphan(key) then
    -- Its state says that it has ended, but it would run as soon as such a worker comes.
    leave_the_dead(key)
    redis.call("HDEL", record, "dead", "error", "crashes", "worker", "started_us")
    state = "queued"
  elseif state ~= "running" then
    return state
  end

  redis.call("HSET", record, "state", "cancelled", "completed_us", now_text)
  if reason ~= "" then
    redis.call("HSET", record, "error", reason)
  end
  redis.call("HDEL", record, "entry")
  if r[10] then
    redis.call("DEL", progress .. key)
  end
  if state == "running" then
    -- The mark is durable, the signal is quick: whoever misses the signal finds the mark.
    redis.call("HSET", record, "busy", r[2], "busy_worker", r[3], "stop", r[2])
    redis.call("PUBLISH", signals_channel .. ":" .. r[3], "stop:" .. r[2])
  elseif r[8] and not r[11] then
    -- The body of an earlier call, replaced meanwhile, is of this key too.
    redis.call("HSET", record, "stop", r[8])
    redis.call("PUBLISH", signals_channel .. ":" .. (r[12] or ""), "stop:" .. r[8])
  end
  if r[5] ~= "0" then
    announce(key, "cancelled", r[6], state == "running" and quoted_name(r[3]) or "null",
      state == "running" and moment(r[7]) or "null", now_moment, reason ~= "" and reason)
  end
  if state ~= "running" and not r[8] then
    let_expire(key, r[5])
  end
  return state
end
