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
