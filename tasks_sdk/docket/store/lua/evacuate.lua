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
for lane in pairs(lanes) do
  give_over_lane(lane, worker_id, "", {}, tally, begun)
end
look_at_lines()
return tally.returned
