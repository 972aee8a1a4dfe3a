-- no transition: how much waits, and how long the oldest of what is due has been
local stream_key = KEYS[1]
local prefix = ARGV[1]
--@include "_house"
--@include "_lines"

-- Redis's own lag of a group is unknown as soon as entries have been deleted, which ours are when they are settled. But
-- whatever is in a stream is either pending with somebody or has not been delivered yet, and that in order.
local function undelivered(stream)
  local length = redis.call("XLEN", stream)
  if length == 0 then
    return 0
  end
  local groups = redis.pcall("XINFO", "GROUPS", stream)
  for _, found in ipairs(groups.err and {} or groups) do
    local facts = {}
    for i = 1, #found, 2 do
      facts[found[i]] = found[i + 1]
    end
    if facts.name == group then
      return length - facts.pending, "(" .. facts["last-delivered-id"]
    end
  end
  return length, "-"
end

local scheduled = redis.call("ZCARD", queue_key)
local due = scheduled > 0 and redis.call("ZCOUNT", queue_key, "-inf", now_text) or 0
scheduled = scheduled - due
local oldest_us = now_us
local function older(moment_us)
  oldest_us = math.min(oldest_us, tonumber(moment_us) or now_us)
end

if due > 0 then
  older(redis.call("ZRANGE", queue_key, 0, 0, "WITHSCORES")[2])
end
for lane, stream in pairs(lanes) do
  local count, since = undelivered(stream)
  due = due + math.max(0, count)
  local first = count > 0 and redis.call("XRANGE", stream, since, "+", "COUNT", 1)[1]
  if first then
    local key = lane ~= "r" and lane ~= "s" and key_of(first[2])
    -- What was given back has been begun before: it waits since then, and not since it was first due.
    local put_in_line_us = tonumber(string.match(first[1], "^%d+")) * 1000
    older(key and redis.call("HGET", runs .. key, "when_us") or put_in_line_us)
  end
end
local waiting = redis.call("SCARD", deferred_key) + everybody_waiting()
for _, rule in ipairs(redis.call("XRANGE", strikes_key, "-", "+")) do
  waiting = waiting + redis.call("ZCARD", held_by .. rule[1])
end
for _, rule in ipairs(redis.call("SMEMBERS", lifted_key)) do
  waiting = waiting + redis.call("ZCARD", held_by .. rule)
end
return { due, scheduled, waiting, redis.call("ZCARD", dead_key), int(now_us - oldest_us) }
