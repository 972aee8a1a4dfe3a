-- How an execution stands in line, leaves it, and ends. Needs: _house, _events.
--@include "_permits"

-- What a signed body was signed with; the record keeps it, so that another body of the same key is none of this call's.
local function nonce_of(body)
  return string.sub(body, 1, 1) == "s" and string.sub(body, 2, 17)
end

-- The entry tells the delivery: each time an execution is put in line it gets another one, so whoever still holds an
-- older entry is fenced by it. `generation` rides along for whoever reads the stream by eye.
-- Idle workers block on the main lane only; that something lies in another one is called out to all, once.
local called_out = {}
local put = {}

local function put_in_line(lane, key, generation)
  put[lane] = (put[lane] or 0) + 1
  if lane ~= "d" and not called_out[lane] then
    called_out[lane] = true
    redis.call("PUBLISH", signals_channel, "look:" .. lane)
  end
  return lane .. ":" .. redis.call("XADD", lanes[lane], "*", "k", key, "g", generation)
end

-- The key that an entry names; nil if it is not one of ours.
local function key_of(fields)
  for i = 1, #(fields or {}), 2 do
    if fields[i] == "k" then
      return fields[i + 1]
    end
  end
end

local function take_out(entry)
  local stream, id = where(entry)
  if stream then
    redis.call("XACK", stream, group, id)
    redis.call("XDEL", stream, id)
  end
end

local function in_line(entry)
  local stream, id = where(entry)
  return stream and #redis.call("XRANGE", stream, id, id) > 0
end

-- What is held stands in the set of the rule that holds it and, when that is lifted, in the queue until it is promoted.
local function leave_hold(key, rule)
  redis.call("ZREM", held_by .. rule, key)
  redis.call("ZREM", queue_key, key)
end

local function is_held(key, rule)
  return redis.call("ZSCORE", held_by .. rule, key) or redis.call("ZSCORE", queue_key, key)
end

-- Ended records live for the time their client asked for; zero means that nothing remains.
local function let_expire(key, ttl_ms)
  if tonumber(ttl_ms or 0) > 0 then
    redis.call("PEXPIRE", runs .. key, ttl_ms)
  else
    redis.call("DEL", runs .. key)
  end
end

-- Progress belongs to the run that reports it: the next one begins at nothing, and whoever watches is told so.
local function forget_progress(key)
  redis.call("HDEL", runs .. key, "progress")
  if redis.call("DEL", progress .. key) == 1 then
    redis.call("PUBLISH", progress .. key, progress_event(key, {}))
  end
end

-- any → failed, kept without expiry until somebody retries or purges it
local function set_aside(key, cause, when_us, worker_id, started_us)
  redis.call("HSET", runs .. key, "state", "failed", "error", cause, "completed_us", now_text, "dead", "1")
  redis.call("HDEL", runs .. key, "progress")
  redis.call("DEL", progress .. key)
  redis.call("PERSIST", runs .. key)
  redis.call("ZADD", dead_key, now_text, key)
  announce(key, "failed", when_us, quoted_name(worker_id), moment(started_us), now_moment, cause)
end

-- What is in the stream or in the queue but no execution of ours: kept as a dead letter of its own, for somebody to see.
local function set_garbage_aside(entry, key, cause)
  local stream, id = where(entry or "")
  local found = stream and redis.call("XRANGE", stream, id, id)[1]
  local stand_in = "garbage:" .. (entry or key)
  redis.call("HSET", runs .. stand_in, "function", "", "generation", "0", "when_us", now_text,
    "body", "j" .. cjson.encode(found and found[2] or { key }))
  set_aside(stand_in, cause, now_text, false, false)
  if entry then
    take_out(entry)
  end
end

-- A record that is there but cannot be worked with is set aside itself, with what it lacks made up.
local function set_broken_aside(key, cause)
  for field, value in pairs({ ["function"] = "", body = "", when_us = now_text, generation = "0" }) do
    redis.call("HSETNX", runs .. key, field, value)
  end
  set_aside(key, cause, now_text, false, false)
end

-- Errors of redis.call end a script half-way, and what it did so far stays done. So each item is worked on by itself: one
-- broken record is set aside, and does not take a batch, a worker or a sweep with it.
local function by_itself(work, entry, key, ...)
  local done, result = pcall(work, entry, key, ...)
  if done then
    return result
  end
  local cause = "its record is broken: " .. (type(result) == "table" and result.err or tostring(result))
  if not (key and pcall(set_broken_aside, key, cause)) then
    set_garbage_aside(entry, key, cause)
  elseif entry then
    take_out(entry)
  end
  return 0
end

-- The earlier body of this key has ended: what had to wait for it goes in line.
local function release(key)
  local record = runs .. key
  local r = redis.call("HMGET", record, "state", "deferred", "generation", "ttl_ms", "permits", "busy", "priority")
  redis.call("HDEL", record, "busy", "busy_worker", "stop", "deferred", "permits")
  if r[5] then
    free_permits(key, r[5], r[6])
  end
  if r[2] then
    redis.call("SREM", deferred_key, key)
    redis.call("HSET", record, "entry", put_in_line(r[7] or "d", key, r[3]))
  elseif r[1] == "cancelled" then
    let_expire(key, r[4])
  end
end
