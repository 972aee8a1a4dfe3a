-- running → queued | failed (dead letter): the work of one worker that has left or died
local stream_key = KEYS[1]
local prefix = ARGV[1]
local worker_id = ARGV[2]
local cause = ARGV[3]
local max_crashes = tonumber(ARGV[4])
local begun_known = ARGV[5] == "1"
--@include "_house"
--@include "_events"
--@include "_lines"
--@later "_cancel"
--@include "_ahead"
--@include "_hand_over"

local begun
if begun_known then
  begun = {}
  for i = 6, #ARGV do
    begun[ARGV[i]] = true
  end
end
local tally = hand_over(worker_id, cause, begun)
look_at_lines()
return tally
