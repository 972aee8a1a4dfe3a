-- Who hears of a state. Mostly that is nobody, and to put an event into words costs more than to ask. Needs: _house, _events.
--@exports ask_who_hears

-- What is published here reaches others than those who subscribed to its very channel on this server: those of a pattern; those on a
-- replica, also on one that comes back and is told what it missed; on a cluster those on every node.
local function only_subscribers_hear()
  if string.sub(prefix, 1, 1) == "{" or redis.pcall("PUBSUB", "NUMPAT") ~= 0 then
    return false
  end
  local said = redis.pcall("INFO", "replication")
  return type(said) == "string" and string.find(said, "role:master", 1, true)
    and string.find(said, "connected_slaves:0", 1, true) and string.find(said, "repl_backlog_active:0", 1, true)
end

local asking

-- Something is about to happen to these keys: it is announced only for those that somebody has subscribed to. In doubt (also
-- where this user may not ask) it is announced for all.
local function ask_who_hears(keys)
  if asking == nil then
    asking = only_subscribers_hear() or false
  end
  if not asking then
    return
  end
  local channels = {}
  for i, key in ipairs(keys) do
    channels[i] = state_channel .. key
  end
  local heard = redis.pcall("PUBSUB", "NUMSUB", unpack(channels))
  if heard.err then
    return
  end
  for i, key in ipairs(keys) do
    unheard[key] = heard[2 * i] == 0
  end
end
