-- queued | running → running by the same worker: what was delivered to it while a reply was lost
local stream_key = KEYS[1]
local prefix = ARGV[1]
local worker_id = ARGV[2]
--@include "_house"
--@include "_events"
--@include "_lines"
--@later "_cancel"
--@include "_ahead"
local worker_name = quoted_name(worker_id)
--@include "_claim"

local held = {}
for i = 3, #ARGV do
  held[ARGV[i]] = true
end
if not redis.call("ZSCORE", workers_key, worker_id) then
  return { 1, claimed }
end
for lane in pairs(lanes) do
  local from = "0"
  repeat
    local found = read_group(lane, 1000, from)
    for _, item in ipairs(found) do
      local entry = lane .. ":" .. item[1]
      from = item[1]
      if not held[entry] then
        claim(entry, key_of(item[2]))
      end
    end
  until #found < 1000
end
look_at_lines()
return { 0, claimed }
