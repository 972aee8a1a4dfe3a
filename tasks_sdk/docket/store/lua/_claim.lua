-- queued → running: an entry that was delivered to this worker becomes its claim. Needs: _house, _events, _lines,
-- _admission; worker_id, worker_name. A claim is a row of eight in `claimed`, as docket/message.py reads it.
local claimed = {}
local claims = 0

-- What this script itself has just promoted, by entry: its record was read then, and is written once, as what it will be.
local fresh = {}

local nothing_more = {}

-- → what every call has, and all the rest: most records hold none of it, and to look for a field that is not there costs as
-- much as to find one.
local function read_record(key)
  local record = runs .. key
  local r = redis.call("HMGET", record, "state", "entry", "function", "body", "when_us", "generation", "nonce", "request")
  local found = 0
  for i = 1, 8 do
    found = r[i] and found + 1 or found
  end
  if redis.call("HLEN", record) == found then
    return r, nothing_more
  end
  return r, redis.call("HMGET", record, "attempt", "redelivered", "crashes", "ttl_ms", "worker", "busy", "shun", "bounced",
    "held", "limits", "priority")
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
local function add_claim(entry, key, r, more, admission)
  local n = 8 * claims
  claims = claims + 1
  claimed[n + 1] = entry
  claimed[n + 2] = key
  for i = 3, 7 do
    claimed[n + i] = r[i]
  end
  claimed[n + 8] = (admission or more ~= nothing_more)
    and { more[1] or false, more[2] or false, more[3] or false, more[4] or false, admission or false }
end

local bounced = false

-- This worker has had it and did not know its task, nor does it now, but another one does.
local function is_for_others(shun, name)
  return string.find("\n" .. shun .. "\n", "\n" .. worker_id .. "\n", 1, true)
    and gently("SISMEMBER", tasks_of .. worker_id, name) ~= 1
    and somebody_knows(name)
end

-- What is for others gives up what it was admitted with, since nobody can tell how long it will wait. First it goes to the end
-- of the line, where an idle worker that knows it is served before us; if it comes to us again, they are all busy, and it waits
-- a moment. Each for another moment: what falls due all at once can be taken all at once by those who do not know it.
local function bounce(entry, key, r, more)
  check_ours()
  take_out(entry)
  bounced = true
  local permits = redis.call("HGET", runs .. key, "permits")
  if permits then
    free_permits(key, permits, entry)
    redis.call("HDEL", runs .. key, "permits")
  end
  if more[8] then
    local due = int(now_us + 50000 + 7919 * tonumber(r[6]) % 200000)
    redis.call("HDEL", runs .. key, "bounced", "entry")
    redis.call("HSET", runs .. key, "state", "scheduled", "when_us", due)
    redis.call("ZADD", queue_key, due, key)
    if more[4] ~= "0" then
      announce(key, "scheduled", due, "null", "null", "null")
    end
  else
    redis.call("HSET", runs .. key, "bounced", "1", "entry", put_in_line(more[11] or "d", key, r[6]))
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
  local r, more
  if promoted then
    r, more = promoted.record, promoted.more
  else
    r, more = read_record(key)
  end
  if not r[1] then
    return set_garbage_aside(entry, key, "no record of the execution '" .. key .. "' exists")
  elseif more[6] == entry then
    -- It was claimed, the reply was lost, and meanwhile the key was cancelled or replaced: nobody ran it, nobody will.
    release(key)
    return take_out(entry)
  elseif r[2] ~= entry then
    return take_out(entry)
  elseif r[1] == "running" and more[5] == worker_id then
    local permits = redis.call("HGET", runs .. key, "permits")
    return add_claim(entry, key, r, more, permits and "=" .. permits)
  elseif r[1] ~= "queued" then
    return take_out(entry)
  end
  if not tonumber(r[5]) then
    error("no number in its field when_us", 0)
  elseif not tonumber(r[6]) then
    error("no number in its field generation", 0)
  elseif more[4] and not tonumber(more[4]) then
    error("no number in its field ttl_ms", 0)
  elseif not (r[3] and r[4] and tonumber(more[1] or 1) and tonumber(more[2] or 0) and tonumber(more[3] or 0)) then
    error("its function, body or counts are missing or garbled", 0)
  end
  if more[7] then
    if is_for_others(more[7], r[3]) then
      return bounce(entry, key, r, more)
    end
    redis.call("HDEL", runs .. key, "bounced")
  end
  local admission
  if more[10] then
    local verdict = admit(key, entry, more[10], r[6], more[11])
    if verdict == false then
      return take_out(entry)
    elseif verdict ~= true then
      note_entry(key, promoted and entry)
      return add_claim(entry, key, r, more, "!" .. verdict .. ":" .. more[10])
    end
    admission = "=" .. more[10]
  elseif is_limited(r[3]) then
    note_entry(key, promoted and entry)
    return add_claim(entry, key, r, more, "?")
  end
  if promoted then
    redis.call("HSET", runs .. key, "state", "running", "entry", entry, "worker", worker_id, "started_us", now_text)
  else
    redis.call("HSET", runs .. key, "state", "running", "worker", worker_id, "started_us", now_text)
  end
  if more[4] ~= "0" then
    announce(key, "running", r[5], worker_name, now_moment, "null")
  end
  add_claim(entry, key, r, more, admission)
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
    local keys = {}
    for i, item in ipairs(entries) do
      keys[i] = key_of(item[2]) or ""
    end
    if #keys >= many then
      ask_who_hears(keys)
    end
    for i, item in ipairs(entries) do
      claim(lane .. ":" .. item[1], keys[i] ~= "" and keys[i])
    end
    read = read + #entries
    used = used + claims - before
    taken[lane] = (taken[lane] or 0) + #entries
    -- What was bounced is for others, and they are not served before this script is over.
    if #entries < wanted or bounced then
      break
    end
  end
  return used
end
