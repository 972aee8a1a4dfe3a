-- How an execution stands in line. Needs: _house, _events.
--@nested

-- Names of limits where something has become free: their lines are looked at when the script has done everything else.
local freed = { c = {}, r = {} }

-- The moment that stands for "admitted, but not begun": such a start counts in every window until it has a moment.
local not_begun = 4e15

--@later "_foreign"
--@later "_dead"
--@later "_permits"

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

--@later "_asides"

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
  local said, needed_by_all = foreign_for(key, problem)
  if needed_by_all then
    refuse(said)
  end
  local cause = said or "its record is broken: " .. problem
  if not (key and pcall(set_broken_aside, key, cause)) then
    set_garbage_aside(entry, key, cause)
  elseif entry then
    take_out(entry)
  end
  return 0
end
