-- scheduled | queued | running | failed (dead letter that only lacks a worker) → cancelled
local stream_key = KEYS[1]
local prefix = ARGV[1]
local key = ARGV[2]
local reason = ARGV[3]
--@include "_house"
--@include "_events"
--@include "_lines"
--@later "_cancel"
--@include "_ahead"

local state = cancel_execution(key, reason)
look_at_lines()
return state
