-- running → queued | failed (dead letter); queued (delivered, unclaimed) → queued: a worker has left or died, and all
-- that was delivered to it goes to others. Needs: _house, _events, _lines; max_crashes.

-- `begun` nil: nobody knows what had begun, so everything that was claimed counts as begun.
local function give_over(entry, key, cause, begun, tally)
  local record = runs .. key
  local r = redis.call("HMGET", record, "state", "entry", "busy", "generation", "crashes", "when_us", "ttl_ms", "worker",
    "started_us", "progress", "permits", "priority")
  if r[3] == entry then
    return release(key)
  elseif r[2] ~= entry then
    return
  end
  if r[11] then
    free_permits(key, r[11], entry)
    redis.call("HDEL", record, "permits")
  end
  local lane = r[5] and "s" or "r"
  if r[1] == "running" and (not begun or begun[entry]) then
    local crashes = (tonumber(r[5]) or 0) + 1
    redis.call("HSET", record, "crashes", crashes)
    if crashes >= max_crashes then
      set_aside(key, "its worker died " .. crashes .. " times while running it, most recently: " .. cause, r[6], r[8], r[9])
      tally.dead[#tally.dead + 1] = key
      return
    end
    redis.call("HINCRBY", record, "redelivered", 1)
    lane = "s"
    tally.suspects = tally.suspects + 1
  elseif r[1] == "running" or r[1] == "queued" then
    if r[1] == "running" then
      redis.call("HINCRBY", record, "redelivered", 1)
    end
    tally.returned = tally.returned + 1
  else
    return
  end
  redis.call("HSET", record, "state", "queued", "entry", put_in_line(lane, key, r[4]))
  redis.call("HDEL", record, "worker", "started_us")
  if r[10] then
    forget_progress(key)
  end
  if r[7] ~= "0" and r[1] == "running" then
    announce(key, "queued", r[6], "null", "null", "null")
  end
end

-- Nor is it the timekeeper any more, or whoever comes next would leave the first due time to it.
local function strike_off(worker_id)
  if redis.call("GET", timekeeper_key) == worker_id then
    redis.call("DEL", timekeeper_key)
  end
  redis.call("ZREM", workers_key, worker_id)
  redis.call("UNLINK", worker_hash .. worker_id, tasks_of .. worker_id)
end

-- Everything of one lane that this worker was given and is not among `kept`. → false: nothing was ever delivered there.
-- What is pending is told a piece at a time, but all of it goes at once: half a worker cannot be struck off, and of what is left
-- of it nobody would know what had begun. That takes Redis some 50 ms for each thousand of its slots.
local function give_over_lane(lane, worker_id, cause, begun, tally, kept)
  local stream, from = lanes[lane], "-"
  repeat
    local pending = redis.pcall("XPENDING", stream, group, from, "+", 1000, worker_id)
    if pending.err then
      return false
    end
    for _, item in ipairs(pending) do
      local entry = lane .. ":" .. item[1]
      from = "(" .. item[1]
      if not kept[entry] then
        local found = redis.call("XRANGE", stream, item[1], item[1])[1]
        local key = found and key_of(found[2])
        if key then
          by_itself(give_over, entry, key, cause, begun, tally)
        elseif found then
          set_garbage_aside(entry, nil, "not an entry of a docket: it names no key")
        end
        take_out(entry)
      end
    end
  until #pending < 1000
  return true
end

local function hand_over(worker_id, cause, begun)
  check_ours()
  local tally = { returned = 0, suspects = 0, dead = {} }
  for lane, stream in pairs(lanes) do
    -- With a consumer Redis forgets all that is pending for it: nothing may be left.
    if give_over_lane(lane, worker_id, cause, begun, tally, {}) then
      redis.call("XGROUP", "DELCONSUMER", stream, group, worker_id)
    end
  end
  strike_off(worker_id)
  -- Perhaps only the dead worker knew of the next due time: the others shall look again.
  redis.call("PUBLISH", signals_channel, "due:" .. (redis.call("ZRANGE", queue_key, 0, 0, "WITHSCORES")[2] or "0"))
  return { worker_id, tally.returned, tally.suspects, tally.dead }
end
