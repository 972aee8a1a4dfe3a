-- nothing | ended → scheduled | queued (add); scheduled | queued | running → scheduled | queued under a new generation
-- (replace, or add from inside the running execution itself)
local stream_key = KEYS[1]
local prefix = ARGV[1]
local judged_by = ARGV[2]
local stride = 10
-- The names of one docket's keys, and the moment this script runs. Needs: stream_key, prefix.
-- KEYS carries the stream (all of a docket's keys share its hash slot); the others are derived here and nowhere else.
local group = "docket-workers"
-- What a record without `ttl_ms` means: fifteen minutes is what nearly all ask for (docket/message.py knows it, too).
local usual_ttl_ms = "900000"
local lanes = { d = stream_key, h = stream_key .. ":high", l = stream_key .. ":low", r = stream_key .. ":redelivered",
  s = stream_key .. ":suspects" }
local queue_key = prefix .. ":queue"
local runs = prefix .. ":runs:"
local results = prefix .. ":results:"
local progress = prefix .. ":progress:"
local state_channel = prefix .. ":state:"
local signals_channel = prefix .. ":signals"
local generations_key = prefix .. ":generations"
local deferred_key = prefix .. ":deferred"
local dead_key = prefix .. ":dead"
local orphans = prefix .. ":orphans:"
local workers_key = prefix .. ":workers"
local tasks_of = prefix .. ":tasks:"
local strikes_key = prefix .. ":strikes"
local held_by = prefix .. ":held:"
local lifted_key = prefix .. ":lifted"
local concurrency = prefix .. ":concurrency:"
local waiting_lines = { c = prefix .. ":waiting:", r = prefix .. ":throttled:" }
local limits_key = prefix .. ":limits"
local maximums_key = prefix .. ":maximums"
local limited_key = prefix .. ":limited"
local alarms_key = prefix .. ":alarms"
local waiters_key = prefix .. ":waiters"
local unasked_key = prefix .. ":unasked"
local rates = prefix .. ":rates:"
local cooldowns = prefix .. ":cooldowns:"
local debounces = prefix .. ":debounces:"

-- A cluster that is moving our slot away refuses a key that is missing here, for it may already be there: in the middle
-- of whatever a script was doing. This one is always missing, so that such a script is refused before it has begun.
if string.sub(prefix, 1, 1) == "{" then
  redis.call("EXISTS", prefix .. ":nowhere")
end

local time = redis.call("TIME")
local now_us = time[1] * 1000000 + time[2]

-- Lua numbers are doubles: exact for microseconds until the year 2255, but tostring() would print 1.7e+15.
local function int(number)
  return string.format("%.0f", number)
end

local now_text = int(now_us)

-- "d:1700000000000-0" → the stream of that lane, and the id within it
local function where(entry)
  return lanes[string.sub(entry, 1, 1)], string.sub(entry, 3)
end

-- Events in the documented JSON: of states (all eight fields each time), of progress. Needs: _house.
local dates = {}

-- Days since 1970 → "2025-01-15" (Howard Hinnant, chrono-compatible low-level date algorithms)
local function date_of(day)
  local z = day + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format("%04d-%02d-%02d", year, month, doy - math.floor((153 * mp + 2) / 5) + 1)
end

-- Whole seconds → '"2025-01-15T10:30:05.'. Formatting costs more than publishing, and most of a batch lies within a few seconds.
local seconds = {}

local function second_of(whole)
  local day = math.floor(whole / 86400)
  local date = dates[day]
  if not date then
    date = date_of(day)
    dates[day] = date
  end
  local rest = whole - day * 86400
  return string.format('"%sT%02d:%02d:%02d.', date, math.floor(rest / 3600), math.floor(rest / 60) % 60, rest % 60)
end

-- And many executions of a batch share their moments to the microsecond.
local moments = {}

local function moment(us)
  if not us then
    return "null"
  end
  local text = moments[us]
  if text then
    return text
  end
  local whole = math.floor(tonumber(us) / 1000000)
  local second = seconds[whole]
  if not second then
    second = second_of(whole)
    seconds[whole] = second
  end
  text = string.format('%s%06dZ"', second, tonumber(us) - whole * 1000000)
  moments[us] = text
  return text
end

local now_moment = moment(now_text)

-- A worker id is the worker's name, "/", and what tells its incarnations apart.
local function quoted_name(worker_id)
  if not worker_id then
    return "null"
  end
  return cjson.encode((string.gsub(worker_id, "/[^/]*$", "")))
end

local function state_event(key, state, when_us, name, started, completed, problem)
  return '{"type":"state","key":' .. cjson.encode(key) .. ',"state":"' .. state .. '","when":' .. moment(when_us)
    .. ',"worker":' .. name .. ',"started_at":' .. started .. ',"completed_at":' .. completed
    .. ',"error":' .. (problem and cjson.encode(problem) or "null") .. "}"
end

local function announce(key, state, when_us, name, started, completed, problem)
  redis.call("PUBLISH", state_channel .. key, state_event(key, state, when_us, name, started, completed, problem))
end

-- `p`: current, total, message, updated_at as the hash has them
local function progress_event(key, p)
  return '{"type":"progress","key":' .. cjson.encode(key) .. ',"current":' .. (p[1] or "0") .. ',"total":'
    .. (p[2] or "100") .. ',"message":' .. (p[3] and cjson.encode(p[3]) or "null")
    .. ',"updated_at":' .. (p[4] and cjson.encode(p[4]) or "null") .. "}"
end

-- How an execution stands in line. Needs: _house, _events.

-- Names of limits where something has become free: their lines are looked at when the script has done everything else.
local freed = { c = {}, r = {} }

-- The moment that stands for "admitted, but not begun": such a start counts in every window until it has a moment.
local not_begun = 4e15

local made_foreign
local function in_foreign()
if made_foreign then return made_foreign end
-- What is done where something that is none of docket's lies at one of its keys. Needs: _house.
--@exports is_about_types, gently, check_ours, foreign_for, refuse

local function is_about_types(problem)
  return string.find(problem, "WRONGTYPE", 1, true)
end

-- What takes something away, or looks for it, finds nothing of ours where something foreign lies: → false then.
local function gently(...)
  local reply = redis.pcall(...)
  if type(reply) == "table" and reply.err then
    if not is_about_types(reply.err) then
      error(reply.err, 0)
    end
    return false
  end
  return reply
end

local checked = false

-- Before something that takes several steps and cannot be begun a second time: what everything needs is there and ours, or it
-- is refused now, and can be asked for again when that has been taken away.
local function check_ours()
  if checked then
    return
  end
  for _, stream in pairs(lanes) do
    redis.call("XLEN", stream)
  end
  for _, key in ipairs({ queue_key, dead_key, alarms_key }) do
    redis.call("ZCARD", key)
  end
  redis.call("SCARD", deferred_key)
  redis.call("SCARD", limits_key)
  redis.call("SCARD", unasked_key)
  redis.call("SCARD", lifted_key)
  redis.call("STRLEN", generations_key)
  redis.call("STRLEN", waiters_key)
  checked = true
end

-- → a sentence that names the key, and whether that is one which everything needs; nothing if all are as they should be
local function find_foreign(key)
  local function look(name, kind)
    local found = redis.call("TYPE", name).ok
    return found ~= kind and found ~= "none" and "the key '" .. name .. "' in Redis holds a " .. found
      .. ", where docket keeps a " .. kind .. ": whoever wrote it must take it away"
  end
  local said
  for _, stream in pairs(lanes) do
    said = said or look(stream, "stream")
  end
  for name, kind in pairs({ [queue_key] = "zset", [dead_key] = "zset", [alarms_key] = "zset", [workers_key] = "zset",
    [deferred_key] = "set", [limits_key] = "set", [limited_key] = "set", [maximums_key] = "hash",
    [strikes_key] = "stream", [generations_key] = "string", [unasked_key] = "set", [lifted_key] = "set", [waiters_key] = "string" }) do
    said = said or look(name, kind)
  end
  if said then
    return said, true
  end
  local r = redis.call("HMGET", runs .. key, "function", "held", "limits")
  said = look(progress .. key, "hash") or look(orphans .. (r[1] or ""), "set")
    or look(held_by .. (r[2] or ""), "zset")
  for _, limit in ipairs(cjson.decode(r[3] or "[]")) do
    local name = limit[2]
    said = said or look(concurrency .. name, "set") or look(waiting_lines.c .. name, "zset")
      or look(waiting_lines.r .. name, "zset") or look(rates .. name, "zset")
      or look(cooldowns .. name, "string") or look(debounces .. name, "string")
  end
  return said, false
end

-- Redis has refused something that was done for this execution. → the same; nothing if its own record is to blame
local function foreign_for(key, problem)
  if not key or not is_about_types(problem) or redis.call("TYPE", runs .. key).ok ~= "hash" then
    return
  end
  local looked, said, needed_by_all = pcall(find_foreign, key)
  if looked and said then
    return said, needed_by_all
  end
end

-- docket/store/refusals.py reads the sentence behind this word.
local function refuse(said)
  error("WRONGTYPE " .. said, 0)
end

made_foreign = { is_about_types = is_about_types, gently = gently, check_ours = check_ours, foreign_for = foreign_for, refuse = refuse }
return made_foreign
end
local made_permits
local function in_permits()
if made_permits then return made_permits end
-- What an execution holds of its limits, and gives up. Needs: _house; freed, not_begun.
--@exports free_permits, join_line, quit_line, count_out, leave_line, stands_in_line, how_many_lines, add_up_lines, everybody_waiting
-- A row of `limits` is { kind, name, … }: { "c", name, most at once, on conflict, family }, { "r", name, how many, in so many
-- microseconds, "drop" or "wait" }, { "w", name, cooldown in microseconds }, { "b", name, pause in microseconds, edge }.

local function free_permits(key, permits, entry)
  for _, limit in ipairs(cjson.decode(permits)) do
    local kind, name = limit[1], limit[2]
    if kind == "c" then
      in_foreign().gently("SREM", concurrency .. name, key)
      freed.c[name] = true
    elseif kind == "r" and entry then
      local begun = tonumber(in_foreign().gently("ZSCORE", rates .. name, entry) or 0)
      if begun >= not_begun then
        in_foreign().gently("ZREM", rates .. name, entry)
        freed.r[name] = true
      end
    end
  end
end

-- There may be a line for each customer: how many stand in all of them is counted as they come and go.
local function join_line(line, place, key)
  redis.call("INCRBY", waiters_key, redis.call("ZADD", line, place, key))
end

local function count_out(gone)
  if gone > 0 and redis.call("DECRBY", waiters_key, gone) <= 0 then
    redis.call("DEL", waiters_key)
  end
end

local function quit_line(line, key)
  count_out(in_foreign().gently("ZREM", line, key) or 0)
end

-- `waiting` is the kind of its line and the name of the limit: "c:customer_id:1001". Whatever else it would have been
-- admitted by may have been kept for it, so the lines of all its limits are looked at.
local function leave_line(key, waiting, limits)
  quit_line(waiting_lines[string.sub(waiting, 1, 1)] .. string.sub(waiting, 3), key)
  for _, limit in ipairs(cjson.decode(limits or "[]")) do
    if freed[limit[1]] then
      freed[limit[1]][limit[2]] = true
    end
  end
end

local function stands_in_line(key, waiting)
  return in_foreign().gently("ZSCORE", waiting_lines[string.sub(waiting, 1, 1)] .. string.sub(waiting, 3), key)
end

local function how_many_lines()
  return redis.call("SCARD", limits_key) + redis.call("ZCARD", alarms_key)
end

-- All lines added up, which takes the longer the more there are.
local function add_up_lines()
  local waiting = 0
  for _, name in ipairs(redis.call("SMEMBERS", limits_key)) do
    waiting = waiting + (in_foreign().gently("ZCARD", waiting_lines.c .. name) or 0)
  end
  for _, name in ipairs(redis.call("ZRANGE", alarms_key, 0, -1)) do
    waiting = waiting + (in_foreign().gently("ZCARD", waiting_lines.r .. name) or 0)
  end
  return waiting
end

local function everybody_waiting()
  return how_many_lines() <= 100 and add_up_lines() or tonumber(redis.call("GET", waiters_key) or 0)
end

made_permits = { free_permits = free_permits, join_line = join_line, quit_line = quit_line, count_out = count_out, leave_line = leave_line, stands_in_line = stands_in_line, how_many_lines = how_many_lines, add_up_lines = add_up_lines, everybody_waiting = everybody_waiting }
return made_permits
end

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

local made_asides
local function in_asides()
if made_asides then return made_asides end
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
    if in_foreign().gently("SISMEMBER", tasks_of .. each, name) == 1 then
      return true
    end
  end
  return false
end

-- The earlier body of this key has ended: what had to wait for it goes in line.
local function release(key)
  in_foreign().check_ours()
  local record = runs .. key
  local r = redis.call("HMGET", record, "state", "deferred", "generation", "ttl_ms", "permits", "busy", "priority")
  redis.call("HDEL", record, "busy", "busy_worker", "stop", "deferred", "permits")
  if r[5] then
    in_permits().free_permits(key, r[5], r[6])
  end
  if r[2] then
    redis.call("SREM", deferred_key, key)
    redis.call("HSET", record, "entry", put_in_line(r[7] or "d", key, r[3]))
  elseif r[1] == "cancelled" then
    let_expire(key, r[4])
  end
end

made_asides = { set_aside = set_aside, set_garbage_aside = set_garbage_aside, set_broken_aside = set_broken_aside, leave_hold = leave_hold, is_held = is_held, let_expire = let_expire, forget_progress = forget_progress, somebody_knows = somebody_knows, release = release }
return made_asides
end

-- Errors of redis.call end a script half-way, and what it did so far stays done. So each item is worked on by itself: one
-- broken record is set aside, and does not take a batch, a worker or a sweep with it. What is done to an item must bear to be
-- done again from its beginning: where something foreign lies at a key that everything needs, nobody's record is to blame, and the
-- script ends with the error, for whoever asked to wait and ask again.
local function by_itself(work, entry, key, ...)
  local done, result = pcall(work, entry, key, ...)
  if done then
    return result
  end
  local problem = type(result) == "table" and result.err or tostring(result)
  local said, needed_by_all = in_foreign().foreign_for(key, problem)
  if needed_by_all then
    in_foreign().refuse(said)
  end
  local cause = said or "its record is broken: " .. problem
  if not (key and pcall(in_asides().set_broken_aside, key, cause)) then
    in_asides().set_garbage_aside(entry, key, cause)
  elseif entry then
    take_out(entry)
  end
  return 0
end

local made_cancel
local function in_cancel()
if made_cancel then return made_cancel end
-- scheduled | queued | running → cancelled. Needs: _house, _events, _lines.
--@exports cancel_execution

-- → the state before
local function cancel_execution(key, reason)
  local record = runs .. key
  local r = redis.call("HMGET", record, "state", "entry", "worker", "deferred", "ttl_ms", "when_us", "started_us", "busy",
    "held", "progress", "stop", "busy_worker", "waiting", "limits", "permits")
  local state = r[1]
  if state == "scheduled" then
    redis.call("ZREM", queue_key, key)
  elseif state == "queued" then
    if r[4] then
      redis.call("SREM", deferred_key, key)
      redis.call("HDEL", record, "deferred")
    elseif r[9] then
      in_asides().leave_hold(key, r[9])
      redis.call("HDEL", record, "held")
    elseif r[13] then
      in_permits().leave_line(key, r[13], r[14])
      redis.call("HDEL", record, "waiting")
    elseif r[2] then
      take_out(r[2])
      if r[15] then
        in_permits().free_permits(key, r[15], r[2])
        redis.call("HDEL", record, "permits")
      end
    end
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
    in_asides().let_expire(key, r[5])
  end
  return state
end

made_cancel = { cancel_execution = cancel_execution }
return made_cancel
end
-- What waits for a permit, or for its time. Needs: _house, _events, _lines, _cancel.
local asked_at_once = 8
-- And so many in all lines together: Redis serves nobody else meanwhile. Lines that one script has no time for are looked at
-- by the next exchange, whoever's it is.
local asks_left = 200
local told_of_unasked = false

local function leave_unasked(kind, name)
  redis.call("SADD", unasked_key, kind .. ":" .. name)
  if not told_of_unasked then
    told_of_unasked = true
    redis.call("PUBLISH", signals_channel, "due:" .. now_text)
  end
end
-- What kept a line from being looked at, in a sentence: for whoever can tell somebody.
local line_in_trouble
local made_admission
local function in_admission()
if made_admission then return made_admission end
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

-- → whether it may pass, else the moment when it may, if that is known
local function debounce(key, limit, generation)
  local value = debounces .. limit[2]
  local pending = redis.call("GET", value)
  if limit[4] == "leading" then
    if pending and pending ~= generation then
      redis.call("PEXPIRE", value, math.ceil(limit[3] / 1000))
      return false
    end
    return true
  end
  local last, due, last_key
  if pending then
    last, due, last_key = string.match(pending, "^(%d+):(%d+):(.*)$")
  end
  if last == generation then
    return tonumber(due) <= now_us, tonumber(due)
  elseif last and tonumber(last) > tonumber(generation) then
    return false  -- a later call is waiting already
  elseif last then
    local r = redis.call("HMGET", runs .. last_key, "generation", "state")
    if r[1] == last and (r[2] == "scheduled" or r[2] == "queued") then
      in_cancel().cancel_execution(last_key, "debounced: a later call has taken its place")
    end
  end
  due = now_us + limit[3]
  redis.call("SET", value, generation .. ":" .. int(due) .. ":" .. key, "PX", math.ceil(limit[3] / 1000) + 86400000)
  return false, due
end

-- A rate of `n` admits nothing until the n-th newest start has left its window. Limits of one name share a log of starts,
-- whatever their windows, so none may throw away by its own window what another still counts.
local function oldest_that_counts(limit)
  local rank = int(limit[3] - 1)
  return tonumber(redis.call("ZREVRANGE", rates .. limit[2], rank, rank, "WITHSCORES")[2])
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
        return i
      end
    elseif item.passed ~= item.generation then
      local free, due = true, nil
      if kind == "w" then
        local last = redis.call("GET", cooldowns .. name)
        free = not last or last == item.generation
      else
        free, due = debounce(key, limit, item.generation)
      end
      if not free then
        return i, due
      end
    end
  end
end

-- The start counts in the window from when it really happens. Only so many of the newest can matter to a limit; a few more
-- are kept for others of the same name.
local starts_kept = 1000

local function count_start(limit, entry, begun)
  local log = rates .. limit[2]
  redis.call("ZADD", log, begun and now_text or not_begun, entry)
  redis.call("ZREMRANGEBYRANK", log, 0, int(-1 - math.max(starts_kept, limit[3])))
  local lasts = math.ceil(limit[4] / 1000) + (begun and 1000 or 86400000)
  if redis.call("PTTL", log) < lasts then
    redis.call("PEXPIRE", log, lasts)
  end
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
          redis.call("SET", (kind == "w" and cooldowns or debounces) .. name, item.generation, "PX", math.ceil(limit[3] / 1000))
        end
      end
    end
  end
  redis.call("HSET", record, "permits", item.text)
  if once then
    redis.call("HSET", record, "passed", item.generation)
  end
end

-- A line that waits for time to pass has an alarm: when the oldest start leaves the window.
local function set_alarm(limit)
  local begun = oldest_that_counts(limit)
  if begun then
    redis.call("ZADD", alarms_key, int((begun >= not_begun and now_us or begun) + limit[4]), limit[2])
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
  in_permits().join_line(waiting_lines[kind] .. name, int(item.place), key)
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
    in_cancel().cancel_execution(oldest_first[i][2], "replaced: a later call took its place under the limit " .. limit[2])
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
      end
    end
    return true
  elseif r[3] then
    in_permits().free_permits(key, r[3], entry)
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
    in_permits().quit_line(line, key)
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
  in_permits().quit_line(line, key)
  return not due and not limit and 0 or 1
end

-- `thorough`: nobody else may ever come to look at what this look leaves unasked.
local function look_at_line(kind, name, thorough)
  local line, own = waiting_lines[kind] .. name, kind .. ":" .. name
  local elsewhere = 0
  while elsewhere < asked_at_once and asks_left > 0 do
    asks_left = asks_left - 1
    local key = (in_foreign().gently("ZRANGE", line, 0, 0) or {})[1]
    if not key then
      break
    end
    local done, result = pcall(ask_first, key, own, line)
    local said = not done and in_foreign().foreign_for(key, type(result) == "table" and result.err or tostring(result))
    if said then  -- whoever waits goes on waiting, and is looked at again before long
      line_in_trouble = said
      if kind == "r" then
        in_foreign().gently("ZADD", alarms_key, int(now_us + 1000000), name)
      end
      return
    elseif not done then
      in_permits().quit_line(line, key)
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

made_admission = { admit = admit, line_for = line_for, line_up_again = line_up_again, look_at_line = look_at_line }
return made_admission
end

-- `thorough`: nobody else may ever come to look at what this look leaves unasked.
local function look_at_lines(thorough)
  while next(freed.c) or next(freed.r) do
    local kind = next(freed.c) and "c" or "r"
    local name = next(freed[kind])
    freed[kind][name] = nil
    if asks_left > 0 then
      in_admission().look_at_line(kind, name, thorough)
    else
      leave_unasked(kind, name)
    end
  end
end

local function admit_in_time()
  for _, line in ipairs(redis.call("SPOP", unasked_key, 20)) do
    freed[string.sub(line, 1, 1)][string.sub(line, 3)] = true
  end
  look_at_lines(true)
  for _, name in ipairs(redis.call("ZRANGEBYSCORE", alarms_key, "-inf", now_text, "LIMIT", 0, 20)) do
    redis.call("ZREM", alarms_key, name)
    in_admission().look_at_line("r", name)
  end
end

-- When somebody must look again, be it at the future or at a line; nil: nothing waits for time to pass.
local function earliest_due()
  local future = tonumber(redis.call("ZRANGE", queue_key, 0, 0, "WITHSCORES")[2])
  local alarm = tonumber(redis.call("ZRANGE", alarms_key, 0, 0, "WITHSCORES")[2])
  return future and alarm and math.min(future, alarm) or future or alarm
end

-- Which rules are in effect, in one word. Needs: _house.
-- Every change of the log either adds an entry, which moves the last id on, or only removes some, which makes it shorter:
-- so the two together name one state of it, and nothing names none. No rule is the usual case, and costs one XLEN.
local function rules_version()
  local length = redis.call("XLEN", strikes_key)
  if length == 0 then
    return ""
  end
  local facts = redis.call("XINFO", "STREAM", strikes_key)
  for i = 1, #facts, 2 do
    if facts[i] == "last-generated-id" then
      return length .. ":" .. facts[i + 1]
    end
  end
end


-- Whoever asks has judged the calls by the rules it knows of: others may be in effect, and then it must judge again.
if rules_version() ~= judged_by then
  return { "stale" }
end

-- A record can outlive its place in line (somebody trimmed the stream): then the key must not stay taken for ever.
local function is_live(key, state, entry, deferred, held, waiting)
  if state == "scheduled" then
    return redis.call("ZSCORE", queue_key, key)
  end
  return (state == "queued" and (deferred or (held and in_asides().is_held(key, held))
      or (waiting and in_permits().stands_in_line(key, waiting)) or (entry and in_line(entry))))
    or (state == "running" and entry and in_line(entry))
end

-- Workers sleep until the earliest due time they know of: only an earlier one is news. Most calls are due at once and wait for
-- nothing, and then nobody has to know.
local looked_ahead, before = false, nil
local function look_ahead()
  if not looked_ahead then
    looked_ahead, before = true, earliest_due()
  end
end

local function schedule(verb, key, name, body, when_us, ttl_ms, inside, request, limits, lane)
  local record = runs .. key
  local now = when_us == "" or tonumber(when_us) <= now_us
  if not now or limits ~= "" then
    look_ahead()
  end
  local old = redis.call("HMGET", record, "state", "entry", "generation", "busy", "stop", "deferred", "dead", "when_us",
    "request", "held", "progress", "worker", "busy_worker", "waiting", "permits", "limits")
  local state, busy, stop, busy_worker = old[1], old[4], old[5], old[13]
  if state and old[9] == request then
    return { "scheduled", old[3], state, old[8] }  -- asked again because our reply was lost
  elseif state and is_live(key, state, old[2], old[6], old[10], old[14]) then
    local successor = state == "running" and inside ~= "" and inside == old[2]
    if verb == "add" and not successor then
      return { "already", old[3], state, old[8] }
    end
    in_foreign().check_ours()
    if state == "scheduled" then
      redis.call("ZREM", queue_key, key)
    elseif state == "running" then
      busy, busy_worker = old[2], old[12]
    elseif old[6] then
      redis.call("SREM", deferred_key, key)
    elseif old[10] then
      in_asides().leave_hold(key, old[10])
    elseif old[14] then
      in_permits().leave_line(key, old[14], old[16])
    else
      take_out(old[2])
    end
  elseif state and old[7] then
    in_foreign().check_ours()
    redis.call("ZREM", dead_key, key)
    in_foreign().gently("SREM", orphans .. (redis.call("HGET", record, "function") or ""), key)
  end
  if busy and not in_line(busy) then
    busy, stop = false, false
  end
  -- Permits belong to a body: to the one that still runs, or to the call that would have been next and is no more.
  local permits = old[15]
  if permits and not busy then
    in_permits().free_permits(key, permits, old[2])
  end
  if old[11] then
    in_asides().forget_progress(key)
  end
  if state then
    redis.call("DEL", record, results .. key)
  end

  local generation = int(redis.call("INCR", generations_key))
  local fields = { "function", name, "body", body, "generation", generation, "request", request }
  local function set(field, value)
    fields[#fields + 1] = field
    fields[#fields + 1] = value
  end
  if now then
    state = "queued"
    when_us = when_us == "" and now_text or when_us
    if busy then
      set("deferred", "1")
      redis.call("SADD", deferred_key, key)
    elseif limits == "" or not in_admission().line_for(key, limits, generation, lane) then
      set("entry", put_in_line(lane == "" and "d" or lane, key, generation))
    end
  else
    state = "scheduled"
    redis.call("ZADD", queue_key, when_us, key)
  end
  set("state", state)
  set("when_us", when_us)
  if ttl_ms ~= usual_ttl_ms then set("ttl_ms", ttl_ms) end
  local nonce = nonce_of(body)
  if nonce then set("nonce", nonce) end
  if busy then
    set("busy", busy)
    set("busy_worker", busy_worker or "")
    if permits then set("permits", permits) end
  end
  if limits ~= "" then set("limits", limits) end
  if lane ~= "" then set("priority", lane) end
  if stop then set("stop", stop) end
  redis.call("HSET", record, unpack(fields))
  if ttl_ms ~= "0" then
    announce(key, state, when_us, "null", "null", "null")
  end
  return { "scheduled", generation, state, when_us }
end

local replies = {}
for i = 3, #ARGV, stride do
  -- One call that cannot be scheduled (its key holds something foreign) does not take the batch with it.
  local done, reply = pcall(schedule, unpack(ARGV, i, i + stride - 1))
  local problem = not done and (type(reply) == "table" and reply.err or tostring(reply))
  -- But a server that takes no writes at all takes none of the batch: nobody may think that these calls are at fault.
  if problem and (string.find(problem, "READONLY ", 1, true) or string.find(problem, "NOREPLICAS ", 1, true)) then
    error(problem)
  end
  replies[#replies + 1] = done and reply or { "failed", problem }
end
look_at_lines()
local after = looked_ahead and earliest_due()
if after and (not before or after < before) then
  redis.call("PUBLISH", signals_channel, "due:" .. int(after))
end
return replies
