-- queued → admitted (it holds a permit of each of its limits) | waiting in the line of one of them | scheduled (debounced)
-- Needs: _house, _events, _lines, _cancel; asked_at_once.
--@exports admit, line_for, line_up_again, look_at_line
-- All or nothing: nobody holds one permit while waiting for another, so nobody can wait in a ring. Each stands in one line
-- only, that of a limit which refused it. When something becomes free there, the first in line are asked again, oldest
-- first, a bounded number: whoever is refused by another limit goes to the line of that one, with its place by age. What is
-- left unasked is not forgotten: those that went before it leave sooner or later, and then its line is looked at again.
local rank = { h = 0, l = 2 }
local ranks = 2 ^ 45

local maximums

-- Read once per script, and only if there is a limit: whoever set another maximum did so for everybody at once.
local function most_of(limit)
  if not maximums then
    maximums = {}
    local flat = redis.call("HGETALL", maximums_key)
    for i = 1, #flat, 2 do
      maximums[flat[i]] = tonumber(flat[i + 1])
    end
  end
  return maximums[limit[2]] or maximums[limit[5]] or limit[3]
end

-- In line by priority, then in the order of arrival; who replaces others is before them all. Who is due at once arrives when
-- it is added, so its generation is its ticket; who is due later takes one when its time has come, and another attempt keeps
-- what the first one had.
local function place_of(ticket, priority, first)
  return (first and -10 or rank[priority or "d"] or 1) * ranks + tonumber(ticket)
end

local function somebody_is_before(line, place)
  local head = redis.call("ZRANGE", line, 0, 0, "WITHSCORES")
  return head[2] and tonumber(head[2]) < place
end

-- A run leaves its generation at a cooldown, or at the leading edge of a debounce, when it begins. Admitted from a line it has
-- not begun: "12?KEY" keeps others away, and nothing at all if that call has been cancelled or replaced in the meantime.
local function mark_of(limit)
  return (limit[1] == "w" and cooldowns or debounces) .. limit[2]
end

local function leave_mark(limit, key, generation, begun)
  redis.call("SET", mark_of(limit), begun and generation or generation .. "?" .. key, "PX", math.ceil(limit[3] / 1000))
end

local function finds_mark(limit, generation)
  local mark = redis.call("GET", mark_of(limit))
  if not mark or mark == generation then
    return false
  end
  local admitted, key = string.match(mark, "^(%d+)%?(.*)$")
  if not admitted then
    return true
  end
  local r = redis.call("HMGET", runs .. key, "generation", "state")
  return r[1] == admitted and r[2] ~= "cancelled"
end

-- The span is counted from when the run really begins. A retry that comes from a line finds another mark there, or none.
local function begin_span(limit, key, generation)
  if (limit[1] == "w" or limit[4] == "leading") and redis.call("GET", mark_of(limit)) == generation .. "?" .. key then
    leave_mark(limit, key, generation, true)
  end
end

-- → whether it may pass, else the moment when it may, if that is known
local function debounce(key, limit, generation)
  local value = debounces .. limit[2]
  if limit[4] == "leading" then
    if finds_mark(limit, generation) then
      redis.call("PEXPIRE", value, math.ceil(limit[3] / 1000))
      return false
    end
    return true
  end
  local pending = redis.call("GET", value)
  local last, due, last_key
  if pending then
    last, due, last_key = string.match(pending, "^(%d+):(%d+):(.*)$")
  end
  if last == generation then
    return tonumber(due) <= now_us, tonumber(due)
  end
  -- One that was cancelled or replaced will not run: nobody is refused because of it.
  local r = last and redis.call("HMGET", runs .. last_key, "generation", "state")
  if r and r[1] == last and (r[2] == "scheduled" or r[2] == "queued") then
    if tonumber(last) > tonumber(generation) then
      return false  -- a later call is waiting already
    end
    cancel_execution(last_key, "debounced: a later call has taken its place")
  end
  due = now_us + limit[3]
  redis.call("SET", value, generation .. ":" .. int(due) .. ":" .. key, "PX", math.ceil(limit[3] / 1000) + 86400000)
  return false, due
end

-- A rate of `n` admits nothing until the n-th newest start has left its window. Limits of one name share a log of starts,
-- whatever their windows, so none may throw away by its own window, or by its own number, what another still counts.
local function oldest_that_counts(limit)
  local rank = int(limit[3] - 1)
  local begun = tonumber(redis.call("ZREVRANGE", rates .. limit[2], rank, rank, "WITHSCORES")[2])
  return begun and begun >= 0 and begun
end

-- So many of the newest starts are kept whoever counts them. A limit that counts more leaves a note in the log, "1200:WINDOW":
-- before all starts, for its score is below zero, the moment until which it holds. It holds for a day longer than the window
-- in which the limit was last asked; what is no limit any more does not make a long log for ever.
local starts_kept = 1000

local function note_of(limit)
  return int(-(now_us + limit[4] + 86400e6)), int(limit[3]) .. ":" .. int(limit[4])
end

local function let_last(log, lasts)
  if redis.call("PTTL", log) < lasts then
    redis.call("PEXPIRE", log, lasts)
  end
end

-- Whoever is refused counts what is in the log as much as whoever begins does.
local function keep_what_refused(limit)
  local log = rates .. limit[2]
  if limit[3] > starts_kept then
    redis.call("ZADD", log, note_of(limit))
  end
  let_last(log, math.ceil(limit[4] / 1000) + 1000)
end

-- Those that have not begun are kept besides: one that never does gives its place back to the start that it came before.
local function forget_starts(log, kept)
  local notes, held = redis.call("ZRANGEBYSCORE", log, "-inf", "(0", "WITHSCORES"), 0
  for i = 1, #notes, 2 do
    if -tonumber(notes[i + 1]) > now_us then
      held = held + 1
      kept = math.max(kept, tonumber(string.match(notes[i], "^%d+")))
    else
      redis.call("ZREM", log, notes[i])
    end
  end
  kept = kept + redis.call("ZCOUNT", log, int(not_begun), "+inf")
  redis.call("ZREMRANGEBYRANK", log, held, int(-1 - kept))
end

-- The first limit that refuses it (nil: none), and the moment when that one will not any more, if it is known. `own`: the
-- line that it comes from, in which it is the first.
local function refusal(key, item, own)
  for i, limit in ipairs(item.wanted) do
    local kind, name = limit[1], limit[2]
    local line = waiting_lines[kind]
    if line and own ~= kind .. ":" .. name and somebody_is_before(line .. name, item.place) then
      return i
    elseif kind == "c" then
      if redis.call("SCARD", concurrency .. name) >= most_of(limit) then
        return i
      end
    elseif kind == "r" then
      local oldest = oldest_that_counts(limit)
      if oldest and oldest > now_us - limit[4] then
        keep_what_refused(limit)
        return i
      end
    elseif item.passed ~= item.generation then
      local free, due = true, nil
      if kind == "w" then
        free = not finds_mark(limit, item.generation)
      else
        free, due = debounce(key, limit, item.generation)
      end
      if not free then
        return i, due
      end
    end
  end
end

-- The start counts in the window from when it really happens. What no limit can count is thrown away a hundred at a time.
local function count_start(limit, entry, begun)
  local log = rates .. limit[2]
  local kept = math.max(starts_kept, limit[3])
  if kept > starts_kept then
    redis.call("ZADD", log, begun and now_text or not_begun, entry, note_of(limit))
  else
    redis.call("ZADD", log, begun and now_text or not_begun, entry)
  end
  if redis.call("ZCARD", log) > kept + 100 then
    forget_starts(log, kept)
  end
  let_last(log, math.ceil(limit[4] / 1000) + (begun and 1000 or 86400000))
end

local function grant(key, item, entry, begun)
  local record = runs .. key
  local once = false
  for _, limit in ipairs(item.wanted) do
    local kind, name = limit[1], limit[2]
    if kind == "c" then
      redis.call("SADD", concurrency .. name, key)
      redis.call("SADD", limits_key, name)
      once = once or limit[4] ~= "queue"
    elseif kind == "r" then
      count_start(limit, entry, begun)
      once = once or limit[5] == "drop"
    else
      once = true
      if item.passed ~= item.generation then
        if kind == "b" and limit[4] ~= "leading" then
          redis.call("DEL", debounces .. name)
        else
          leave_mark(limit, key, item.generation, begun)
        end
      elseif begun then
        begin_span(limit, key, item.generation)
      end
    end
  end
  redis.call("HSET", record, "permits", item.text)
  if once then
    redis.call("HSET", record, "passed", item.generation)
  end
end

-- A line that waits for time to pass has an alarm: when the oldest start leaves the window. Those in it may count in different
-- windows, and whoever comes last knows nothing of the first: the earliest alarm holds, and whoever is first then sets the next.
local function set_alarm(limit)
  local begun = oldest_that_counts(limit)
  if begun then
    redis.call("ZADD", alarms_key, "LT", int((begun >= not_begun and now_us or begun) + limit[4]), limit[2])
  end
end

local function has_passed(item)
  return item.passed == item.generation
end

-- Another attempt, or what was handed back, is never refused for good: it was admitted once, and must not get lost.
local function waits(limit, item)
  return ((limit[1] == "c" or limit[1] == "r") and has_passed(item)) or (limit[1] == "c" and (limit[4] == "queue" or limit[4] == "replace")) or (limit[1] == "r" and limit[5] == "wait")
end

local function wait_for(key, item, limit)
  local kind, name = limit[1], limit[2]
  join_line(waiting_lines[kind] .. name, int(item.place), key)
  if kind == "c" then
    redis.call("SADD", limits_key, name)
  else
    set_alarm(limit)
  end
  redis.call("HDEL", runs .. key, "entry", "worker", "started_us")
  redis.call("HSET", runs .. key, "state", "queued", "waiting", kind .. ":" .. name)
end

local function wait_until(key, due)
  redis.call("HDEL", runs .. key, "entry", "worker", "started_us")
  redis.call("HSET", runs .. key, "state", "scheduled", "when_us", int(due))
  redis.call("ZADD", queue_key, int(due), key)
  if redis.call("HGET", runs .. key, "ttl_ms") ~= "0" then
    announce(key, "scheduled", int(due), "null", "null", "null")
  end
end

-- The oldest of those that run under the limit, or wait to replace one, are cancelled until there is room for one more.
local function make_room(limit)
  local oldest_first = {}
  for _, key in ipairs(redis.call("SMEMBERS", concurrency .. limit[2])) do
    local r = redis.call("HMGET", runs .. key, "state", "busy", "ticket", "generation")
    if not r[2] and (r[1] == "running" or r[1] == "queued") then
      oldest_first[#oldest_first + 1] = { tonumber(r[3] or r[4]), key }
    end
  end
  for _, key in ipairs(redis.call("ZRANGEBYSCORE", waiting_lines.c .. limit[2], "-inf", "(0")) do
    local r = redis.call("HMGET", runs .. key, "ticket", "generation")
    oldest_first[#oldest_first + 1] = { tonumber(r[1] or r[2]), key }
  end
  table.sort(oldest_first, function(a, b) return a[1] < b[1] end)
  for i = 1, #oldest_first - most_of(limit) + 1 do
    cancel_execution(oldest_first[i][2], "replaced: a later call took its place under the limit " .. limit[2])
  end
end

local function replaces(wanted)
  for _, limit in ipairs(wanted) do
    if limit[1] == "c" and limit[4] == "replace" then
      return true
    end
  end
  return false
end

local function item_of(text, generation, ticket, priority, passed)
  local wanted = cjson.decode(text)
  return { text = text, wanted = wanted, generation = generation, passed = passed,
    place = place_of(ticket or generation, priority, replaces(wanted)) }
end

-- → true: it holds all its permits. false: it waits, and `entry` has no meaning any more. A number: the limit that refuses
-- it for good, which is for its worker to act upon.
local function admit(key, entry, text, generation, priority)
  local record = runs .. key
  local r = redis.call("HMGET", record, "ticket", "passed", "permits")
  if r[3] == text then
    for _, limit in ipairs(cjson.decode(text)) do
      if limit[1] == "r" then
        count_start(limit, entry, true)
      elseif limit[1] ~= "c" then
        begin_span(limit, key, generation)
      end
    end
    return true
  elseif r[3] then
    free_permits(key, r[3], entry)
    redis.call("HDEL", record, "permits")
  end
  local item = item_of(text, generation, r[1], priority, r[2])
  local refused, due = refusal(key, item)
  if refused and item.wanted[refused][4] == "replace" and not has_passed(item) then
    make_room(item.wanted[refused])
    refused, due = refusal(key, item)
  end
  if not refused then
    grant(key, item, entry, true)
    return true
  elseif due then
    wait_until(key, due)
  elseif waits(item.wanted[refused], item) then
    wait_for(key, item, item.wanted[refused])
  else
    return refused
  end
  return false
end

-- A call that would only be claimed to be put in a line goes there directly. → whether it waits
local function line_for(key, text, generation, priority)
  local item = item_of(text, generation, nil, priority)
  for _, limit in ipairs(item.wanted) do
    if not waits(limit, item) or limit[4] == "replace" then
      return false
    end
  end
  local refused = refusal(key, item)
  if refused then
    wait_for(key, item, item.wanted[refused])
  end
  return refused
end

-- Another attempt stands in line where it stood the first time, and not behind all that is due meanwhile. → whether it waits
local function line_up_again(key, text, generation, priority)
  local r = redis.call("HMGET", runs .. key, "ticket", "passed")
  local item = item_of(text, generation, r[1], priority, r[2])
  for _, limit in ipairs(item.wanted) do
    if limit[1] == "c" and waits(limit, item) then
      wait_for(key, item, limit)
      return true
    end
  end
  return false
end

-- → false: nobody of this line can be admitted now; 0: it was admitted; 1: it was sent elsewhere
local function ask_first(key, own, line)
  local record = runs .. key
  local r = redis.call("HMGET", record, "state", "waiting", "limits", "generation", "ticket", "priority", "passed", "crashes")
  if r[1] ~= "queued" or r[2] ~= own or not r[3] then
    quit_line(line, key)
    return 1
  end
  local item = item_of(r[3], r[4], r[5], r[6], r[7])
  local refused, due = refusal(key, item, own)
  local limit = item.wanted[refused]
  if limit and limit[1] .. ":" .. limit[2] == own then
    if limit[1] == "r" then
      set_alarm(limit)
    end
    return false
  end
  -- It leaves this line when it stands elsewhere, and not before: that can be refused.
  if due then
    wait_until(key, due)
    redis.call("HDEL", record, "waiting")
  elseif limit and waits(limit, item) then
    wait_for(key, item, limit)
  else
    -- Refused for good or admitted: a worker is next.
    local entry = put_in_line(r[8] and "s" or "r", key, r[4])
    redis.call("HDEL", record, "waiting")
    redis.call("HSET", record, "entry", entry)
    if not limit then
      grant(key, item, entry, false)
    end
  end
  quit_line(line, key)
  return not due and not limit and 0 or 1
end

-- `thorough`: nobody else may ever come to look at what this look leaves unasked.
local function look_at_line(kind, name, thorough)
  local line, own = waiting_lines[kind] .. name, kind .. ":" .. name
  local elsewhere = 0
  while elsewhere < asked_at_once and asks_left > 0 do
    asks_left = asks_left - 1
    local key = (gently("ZRANGE", line, 0, 0) or {})[1]
    if not key then
      break
    end
    local done, result = pcall(ask_first, key, own, line)
    local said = not done and foreign_for(key, type(result) == "table" and result.err or tostring(result))
    if said then  -- whoever waits goes on waiting, and is looked at again before long
      line_in_trouble = said
      if kind == "r" then
        gently("ZADD", alarms_key, int(now_us + 1000000), name)
      end
      return
    elseif not done then
      quit_line(line, key)
      by_itself(error, false, key, result)
      result = 1
    elseif not result then
      break
    end
    elsewhere = elsewhere + result
  end
  local empty = redis.call("EXISTS", line) == 0
  if not empty and (asks_left <= 0 or (thorough and elsewhere >= asked_at_once)) then
    leave_unasked(kind, name)
  end
  if kind == "c" and empty and redis.call("EXISTS", concurrency .. name) == 0 then
    redis.call("SREM", limits_key, name)
  elseif kind == "r" and empty then
    redis.call("ZREM", alarms_key, name)
  elseif kind == "r" and elsewhere >= asked_at_once then
    redis.call("ZADD", alarms_key, now_text, name)
  end
end
