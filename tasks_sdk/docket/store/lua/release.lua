-- queued (held) → queued (due), a piece at a time
local stream_key = KEYS[1]
local prefix = ARGV[1]
local most = tonumber(ARGV[2])
--@include "_house"
--@later "_foreign"
--@include "_release"

return release_held(most)
