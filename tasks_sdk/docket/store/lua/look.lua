-- queued (waiting) → queued (admitted): the lines of these limits are looked at, for one of them may admit more than before
local stream_key = KEYS[1]
local prefix = ARGV[1]
--@include "_house"
--@include "_events"
--@include "_lines"
--@later "_cancel"
--@include "_ahead"

for i = 2, #ARGV do
  if redis.call("EXISTS", waiting_lines.c .. ARGV[i]) == 1 then
    freed.c[ARGV[i]] = true
  end
end
look_at_lines(true)
