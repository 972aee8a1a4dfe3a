-- running → anything but an end of its own. Needs: _house, _events, _lines, _ahead; worker_id, worker_name.
--@exports retry, perpetuate, give_back, hold, orphan, ask_admission

-- running → scheduled | queued: the key has another run before it, `delay_us` from now
local function run_again(key, r, delay_us, generation, permits)
  local due_text = int(now_us + delay_us)
  local state = delay_us > 0 and "scheduled" or "queued"
  if delay_us > 0 then
    redis.call("ZADD", queue_key, due_text, key)
    redis.call("HSET", runs .. key, "state", state, "when_us", due_text)
  elseif permits and line_up_again(key, permits, generation, r[12]) then
    redis.call("HSET", runs .. key, "when_us", due_text)
  else
    redis.call("HSET", runs .. key, "state", state, "when_us", due_text, "entry", put_in_line(r[12] or "d", key, generation))
  end
  if r[3] ~= "0" then
    announce(key, state, due_text, "null", "null", "null")
  end
end

-- another attempt of the same generation
local function retry(key, r, delay_us, counted)
  if counted then
    if r[10] then
      redis.call("HINCRBY", runs .. key, "attempt", 1)
    else
      redis.call("HSET", runs .. key, "attempt", 2)
    end
  end
  redis.call("HDEL", runs .. key, "entry", "crashes", "worker", "started_us")
  if r[6] then
    forget_progress(key)
  end
  if r[9] and delay_us > 0 then
    redis.call("HSETNX", runs .. key, "ticket", r[11])
  end
  run_again(key, r, delay_us, r[11], r[9])
end

-- the next run of a perpetual task: a generation with a clean record, and perhaps with other arguments
local function perpetuate(key, r, delay_us, body)
  local generation = int(redis.call("INCR", generations_key))
  redis.call("HDEL", runs .. key, "entry", "crashes", "attempt", "redelivered", "worker", "started_us", "error", "request", "ticket")
  redis.call("HSET", runs .. key, "generation", generation)
  if body ~= "" then
    redis.call("HSET", runs .. key, "body", body)
    redis.call("HDEL", runs .. key, "limits", "nonce")  -- they depend on the arguments
    local nonce = nonce_of(body)
    if nonce then
      redis.call("HSET", runs .. key, "nonce", nonce)
    end
  end
  if r[6] then
    forget_progress(key)
  end
  run_again(key, r, delay_us, generation)
end

-- running → queued, in front of everybody else, without losing an attempt; a suspect stays one
local function give_back(key, r, begun)
  local record = runs .. key
  redis.call("HSET", record, "state", "queued", "entry", put_in_line(r[8] and "s" or "r", key, r[11]))
  redis.call("HDEL", record, "worker", "started_us")
  if r[6] then
    forget_progress(key)
  end
  if begun then
    redis.call("HINCRBY", record, "redelivered", 1)
  end
  if r[3] ~= "0" then
    announce(key, "queued", r[4], "null", "null", "null")
  end
end

-- running → queued, out of line until the rule that holds it is lifted; at once if that has happened meanwhile
local function hold(key, r, rule)
  if #redis.call("XRANGE", strikes_key, rule, rule) == 0 then
    return give_back(key, r, false)
  end
  local record = runs .. key
  redis.call("ZADD", held_by .. rule, r[4], key)
  redis.call("HDEL", record, "entry", "worker", "started_us")
  redis.call("HSET", record, "state", "queued", "held", rule)
  if r[3] ~= "0" then
    announce(key, "queued", r[4], "null", "null", "null")
  end
end

-- A task nobody here knows. If another worker knows it, that one shall have it; else it waits among the dead letters
-- for a worker that does.
local function orphan(key, r, cause)
  local name = redis.call("HGET", runs .. key, "function") or ""
  if somebody_knows(name) then
    -- All that do not know it, or they would hand it to each other while the one that does is busy.
    local shun = redis.call("HGET", runs .. key, "shun")
    local shunned = shun and #shun < 2000 and shun .. "\n" .. worker_id or worker_id
    redis.call("HSET", runs .. key, "shun", shunned)
    return retry(key, r, 0, false)
  end
  redis.call("SADD", orphans .. name, key)
  set_aside(key, cause, r[4], worker_id, r[5])
end

-- queued (delivered to this worker, its limits not known) | running → running, waiting or refused
-- → 3 it may begin, 4 it waits, 0 and 2 as below, 10 + the number of the limit that refuses it for good
local function ask_admission(entry, key, wanted)
  local record = runs .. key
  local r = redis.call("HMGET", record, "entry", "busy", "state", "generation", "priority", "limits", "permits", "when_us", "ttl_ms")
  if r[2] == entry then
    release(key)
    take_out(entry)
    return 2
  elseif r[1] ~= entry or not (r[3] == "running" or r[3] == "queued") then
    return 0
  elseif r[3] == "running" and r[7] == wanted then
    return 3  -- asked again because our reply was lost
  elseif r[6] ~= wanted then
    redis.call("HSET", record, "limits", wanted)
  end
  local verdict = admit(key, entry, wanted, r[4], r[5])
  if verdict == true then
    redis.call("HSET", record, "state", "running", "worker", worker_id, "started_us", now_text)
    if r[9] ~= "0" and r[3] == "queued" then
      announce(key, "running", r[8], worker_name, now_moment, "null")
    end
    return 3
  elseif verdict == false then
    take_out(entry)
    if r[9] ~= "0" and r[3] == "running" then
      announce(key, "queued", r[8], "null", "null", "null")
    end
    return 4
  end
  return 10 + verdict
end
