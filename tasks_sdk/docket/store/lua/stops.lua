-- running: no transition. Which of these deliveries have been cancelled meanwhile?
local stream_key = KEYS[1]
local prefix = ARGV[1]
--@include "_house"

local stopped = {}
for i = 2, #ARGV, 2 do
  local stop = redis.pcall("HGET", runs .. ARGV[i + 1], "stop")  -- a record that is no hash any more is settled as broken
  if stop == ARGV[i] then
    stopped[#stopped + 1] = ARGV[i]
  end
end
return stopped
