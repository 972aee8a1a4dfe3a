-- How an execution leaves the line otherwise than by being claimed, and ends otherwise than by its outcome. Needs: _house,
-- _events, _lines, _permits.
--@exports set_aside, set_garbage_aside, set_broken_aside, leave_hold, is_held, let_expire, forget_progress, somebody_knows, release

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
  if ttl_ms ~= "0" then
    redis.call("PEXPIRE", runs .. key, ttl_ms or usual_ttl_ms)
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
  redis.call("ZADD", dead_key, now_text, key)
  redis.call("HSET", runs .. key, "state", "failed", "error", cause, "completed_us", now_text, "dead", "1")
  redis.call("HDEL", runs .. key, "progress")
  redis.call("DEL", progress .. key)
  redis.call("PERSIST", runs .. key)
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

-- Whether a worker on the roll knows this task.
local function somebody_knows(name)
  for _, each in ipairs(redis.call("ZRANGE", workers_key, 0, -1)) do
    if gently("SISMEMBER", tasks_of .. each, name) == 1 then
      return true
    end
  end
  return false
end

-- The earlier body of this key has ended: what had to wait for it goes in line.
local function release(key)
  check_ours()
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
