-- running → completed | failed | cancelled | scheduled | queued (retry, interrupted, returned) | failed (dead letter)
-- Needs: _house, _events, _lines, _ahead; worker_id.
-- Fenced: the record must still name this entry. Every redelivery, replacement and cancellation gives the record
-- another entry or none, so a settlement that comes late, or comes twice, changes nothing.
local worker_name = quoted_name(worker_id)
local acknowledged = { d = {}, h = {}, l = {}, r = {}, s = {} }

-- To delete an entry Redis walks through all that lie before it in its node, those deleted earlier included; to trim what lies
-- before an entry it walks there once, for a tenth of that when fifty are settled. What lies before the oldest that is pending
-- has been delivered, for entries are delivered in order, and is not pending any more: it is settled, all of it.
local function delete_settled(stream, ids)
  local oldest = #ids > 3 and redis.call("XPENDING", stream, group, "-", "+", 1)[1]
  if not oldest or redis.call("XTRIM", stream, "MINID", oldest[1]) < #ids then
    redis.call("XDEL", stream, unpack(ids))  -- an older one still runs, or nobody has any
  end
end

local function acknowledge_settled()
  for lane, ids in pairs(acknowledged) do
    if #ids > 0 then
      redis.call("XACK", lanes[lane], group, unpack(ids))
      delete_settled(lanes[lane], ids)
    end
  end
end

--@later "_unfinished"

-- running → completed | failed | cancelled
local function finish(key, r, state, problem, kind, payload)
  local record = runs .. key
  local keep, ttl_ms = r[3] ~= "0", r[3] or usual_ttl_ms
  if r[6] then
    redis.call("DEL", progress .. key)
  end
  if not keep then
    redis.call("DEL", record)
    return
  end
  if payload == "e" then  -- it lies in the client's own storage, under this delivery's name
    redis.call("HSET", record, "state", state, "completed_us", now_text, "result", kind .. " elsewhere")
  elseif payload ~= "" then
    redis.call("SET", results .. key, payload, "PX", ttl_ms)
    redis.call("HSET", record, "state", state, "completed_us", now_text, "result", kind)
  else
    redis.call("HSET", record, "state", state, "completed_us", now_text)
  end
  if problem then
    redis.call("HSET", record, "error", problem)
  end
  if r[8] then
    redis.call("HDEL", record, "crashes")  -- it was under suspicion, and has come to its end
  end
  redis.call("PEXPIRE", record, ttl_ms)
  announce(key, state, r[4], worker_name, moment(r[5]), now_moment, problem)
end

local function settle_one(entry, key, outcome, a, b)
  local r = redis.call("HMGET", runs .. key, "entry", "busy", "ttl_ms", "when_us", "started_us", "progress", "state", "crashes",
    "permits")
  if r[2] == entry then
    release(key)
    return 2
  elseif r[1] ~= entry or not (r[7] == "running" or r[7] == "queued") then
    return 0
  end
  if outcome ~= "completed" and outcome ~= "failed" and outcome ~= "cancelled" then
    check_ours()  -- those change the record alone; all others put it somewhere
    local rest = redis.call("HMGET", runs .. key, "attempt", "generation", "priority")
    r[10], r[11], r[12] = rest[1], rest[2], rest[3]
  end
  if r[9] then
    free_permits(key, r[9], entry)
    redis.call("HDEL", runs .. key, "permits")
  end
  if outcome == "completed" then
    finish(key, r, "completed", false, "value", a)
  elseif outcome == "failed" then
    finish(key, r, "failed", a, "exception", b)
  elseif outcome == "retry" then
    retry(key, r, tonumber(a), true)
  elseif outcome == "perpetuate" then
    perpetuate(key, r, tonumber(a), b)
  elseif outcome == "cancelled" then
    finish(key, r, "cancelled", a ~= "" and a, "", "")
  elseif outcome == "held" then
    hold(key, r, a)
  elseif outcome == "interrupted" then
    give_back(key, r, true)
  elseif outcome == "returned" then
    give_back(key, r, false)
  elseif outcome == "unknown" then
    orphan(key, r, a)
  elseif outcome == "dead" then
    set_aside(key, a, r[4], worker_id, r[5])
  else
    error("no such outcome: " .. outcome)
  end
  return 1
end

-- → 1 settled, 0 refused (fenced), 2 superseded: the key has gone on to another call, or was cancelled meanwhile
local function settle(entry, key, outcome, a, b)
  if outcome == "admit" then
    return by_itself(ask_admission, entry, key, a)
  end
  local lane = acknowledged[string.sub(entry, 1, 1)]
  lane[#lane + 1] = string.sub(entry, 3)
  return by_itself(settle_one, entry, key, outcome, a, b)
end
