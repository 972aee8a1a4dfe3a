-- How a dead letter ceases to be one. Needs: _house, _foreign.
--@exports is_orphan, leave_the_dead

-- Where its like wait for a worker that knows their task.
local function orphanage_of(key)
  return orphans .. (gently("HGET", runs .. key, "function") or "")
end

-- It only lacks a worker knowing its task, and goes in line when one comes.
local function is_orphan(key)
  return gently("SISMEMBER", orphanage_of(key), key) == 1
end

-- Nobody may find it any more, least of all a worker that comes to know its task. → whether it was there
local function leave_the_dead(key)
  local was_there = redis.call("ZREM", dead_key, key) == 1
  gently("SREM", orphanage_of(key), key)
  return was_there
end
