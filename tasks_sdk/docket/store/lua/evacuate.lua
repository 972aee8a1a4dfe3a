-- running → queued, queued (delivered, unclaimed) → queued: what a stuck worker was given and has not begun goes to
-- others; it stays on the roll and keeps what it has begun
local stream_key = KEYS[1]
local prefix = ARGV[1]
local worker_id = ARGV[2]
--@include "_house"
--@include "_events"
--@include "_lines"
--@later "_cancel"
--@include "_ahead"
local max_crashes = 0 -- nothing given back here had begun, so nothing is counted
--@include "_hand_over"

local begun = {}
for i = 3, #ARGV do
  begun[ARGV[i]] = true
end

local tally = { returned = 0, suspects = 0, dead = {} }
for lane, stream in pairs(lanes) do
  local pending = redis.pcall("XPENDING", stream, group, "-", "+", 1000, worker_id)
  for _, item in ipairs(pending.err and {} or pending) do
    local entry = lane .. ":" .. item[1]
    if not begun[entry] then
      local found = redis.call("XRANGE", stream, item[1], item[1])[1]
      local key = found and key_of(found[2])
      if key then
        by_itself(give_over, entry, key, "", {}, tally)
      end
      take_out(entry)
    end
  end
end
look_at_lines()
return tally.returned
