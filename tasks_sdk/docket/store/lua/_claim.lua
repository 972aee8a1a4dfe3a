-- queued → running: an entry that was delivered to this worker becomes its claim. Needs: _house, _events, _lines,
-- _admission; worker_id, worker_name. A claim is a row of twelve in `claimed`, as docket/message.py reads it.
local claimed = {}
local claims = 0

-- What this script itself has just promoted, by entry: its record was read then, and is written once, as what it will be.
local fresh = {}

local function read_record(key)
  return redis.call("HMGET", runs .. key, "state", "entry", "function", "body", "when_us", "attempt", "generation",
    "redelivered", "crashes", "ttl_ms", "worker", "busy", "shun", "bounced", "held", "limits", "priority", "nonce")
end

local limited, some_are_limited = {}, nil

-- Limits can depend on arguments, which only Python can read: whoever adds a call that it knows the limits of sends them along.
-- A call without, of a task that some worker says is limited, is not begun before its worker has told them.
local function is_limited(name)
  if some_are_limited == nil then
    some_are_limited = redis.call("EXISTS", limited_key) == 1
  end
  if some_are_limited and limited[name] == nil then
    limited[name] = redis.call("SISMEMBER", limited_key, name) == 1
  end
  return limited[name]
end

-- `admission`: "=" and the limits that have admitted it; "!", the number of the one that refuses it, ":" and the limits; "?" if
-- its limits are not known; nothing if there are none.
local function add_claim(entry, key, r, admission)
  local n = #claimed
  claims = claims + 1
  claimed[n + 1] = entry
  claimed[n + 2] = key
  for i = 3, 10 do
    claimed[n + i] = r[i]
  end
  claimed[n + 11] = admission or false
  claimed[n + 12] = r[18]
end

-- This worker has had it and does not know its task, but another one does: first it goes to the end of the line, where an
-- idle worker that knows it is served before us; if it comes to us again, they are all busy, and it waits a moment.
local function bounce(entry, key, r)
  check_ours()
  take_out(entry)
  if r[14] then
    local due = int(now_us + 250000)
    redis.call("HDEL", runs .. key, "bounced", "entry")
    redis.call("HSET", runs .. key, "state", "scheduled", "when_us", due)
    redis.call("ZADD", queue_key, due, key)
  else
    redis.call("HSET", runs .. key, "bounced", "1", "entry", put_in_line(r[17] or "d", key, r[7]))
  end
end

-- What was promoted in this same script is written down when it runs; a claim that does not run yet must be known, too.
local function note_entry(key, entry)
  if entry then
    redis.call("HSET", runs .. key, "state", "queued", "entry", entry)
  end
end

local function claim_one(entry, key)
  if not key then
    return set_garbage_aside(entry, key, "not an entry of a docket: it names no key")
  end
  local promoted = fresh[entry]
  local r = promoted and promoted.record or read_record(key)
  if not r[1] then
    return set_garbage_aside(entry, key, "no record of the execution '" .. key .. "' exists")
  elseif r[12] == entry then
    -- It was claimed, the reply was lost, and meanwhile the key was cancelled or replaced: nobody ran it, nobody will.
    release(key)
    return take_out(entry)
  elseif r[2] ~= entry then
    return take_out(entry)
  elseif r[1] == "running" and r[11] == worker_id then
    local permits = redis.call("HGET", runs .. key, "permits")
    return add_claim(entry, key, r, permits and "=" .. permits)
  elseif r[1] ~= "queued" then
    return take_out(entry)
  end
  for i, field in pairs({ [5] = "when_us", [7] = "generation" }) do
    if not tonumber(r[i]) then
      error("no number in its field " .. field, 0)
    end
  end
  if r[10] and not tonumber(r[10]) then
    error("no number in its field ttl_ms", 0)
  end
  if not (r[3] and r[4] and tonumber(r[6] or 1) and tonumber(r[8] or 0) and tonumber(r[9] or 0)) then
    error("its function, body or counts are missing or garbled", 0)
  end
  if r[13] == worker_id and somebody_knows(r[3]) then
    return bounce(entry, key, r)
  elseif r[13] then
    redis.call("HDEL", runs .. key, "shun", "bounced")
  end
  local admission
  if r[16] then
    local verdict = admit(key, entry, r[16], r[7], r[17])
    if verdict == false then
      return take_out(entry)
    elseif verdict ~= true then
      note_entry(key, promoted and entry)
      return add_claim(entry, key, r, "!" .. verdict .. ":" .. r[16])
    end
    admission = "=" .. r[16]
  elseif is_limited(r[3]) then
    note_entry(key, promoted and entry)
    return add_claim(entry, key, r, "?")
  end
  if promoted then
    redis.call("HSET", runs .. key, "state", "running", "entry", entry, "worker", worker_id, "started_us", now_text)
  else
    redis.call("HSET", runs .. key, "state", "running", "worker", worker_id, "started_us", now_text)
  end
  if r[10] ~= "0" then
    announce(key, "running", r[5], worker_name, now_moment, "null")
  end
  add_claim(entry, key, r, admission)
end

-- Whatever ends the script before this is over leaves it among what was promoted and not claimed.
local function claim(entry, key)
  by_itself(claim_one, entry, key)
  fresh[entry] = nil
end

-- Streams can vanish under us (FLUSHDB, a restore): a missing group is made anew instead of failing for ever.
local function read_group(lane, most, from)
  local reply = redis.pcall("XREADGROUP", "GROUP", group, worker_id, "COUNT", most, "STREAMS", lanes[lane], from)
  if reply and reply.err then
    if not string.find(reply.err, "NOGROUP", 1, true) then
      error(reply.err)
    end
    redis.call("XGROUP", "CREATE", lanes[lane], group, "0", "MKSTREAM")
    reply = redis.call("XREADGROUP", "GROUP", group, worker_id, "COUNT", most, "STREAMS", lanes[lane], from)
  end
  return reply and reply[1] and reply[1][2] or {}
end

local most_read = 300
local taken = {}

-- → how many slots are used up. What a limit does not admit, and what is no entry of ours, uses none, so more is read; but only
-- so much at a time, because Redis serves nobody else meanwhile.
local function claim_new(lane, most)
  local used, read = 0, 0
  while used < most and read < most_read do
    local wanted, before = math.min(most - used, most_read - read), claims
    local entries = read_group(lane, wanted, ">")
    for _, item in ipairs(entries) do
      claim(lane .. ":" .. item[1], key_of(item[2]))
    end
    read = read + #entries
    used = used + claims - before
    taken[lane] = (taken[lane] or 0) + #entries
    if #entries < wanted then
      break
    end
  end
  return used
end
