-- running → any outcome (settle), scheduled → queued (promote), queued → running (claim): one worker's whole round trip
local stream_key = KEYS[1]
local prefix = ARGV[1]
local worker_id = ARGV[2]
local free = tonumber(ARGV[3])
local lanes_wanted = ARGV[4]
local promote_most = tonumber(ARGV[5])
local census_wanted = ARGV[6] == "1"
local settled_count = tonumber(ARGV[7])
local delivered_count = tonumber(ARGV[8])
--@include "_house"
--@include "_events"
--@include "_lines"
--@later "_cancel"
--@include "_ahead"
--@include "_settle"
--@include "_claim"
--@include "_promote"
--@include "_strikes"

local next_argument = 9
if settled_count >= many then
  local keys = {}
  for i = 1, settled_count do
    keys[i] = ARGV[next_argument + 5 * i - 4]
  end
  ask_who_hears(keys)
end
local verdicts = {}
for i = 1, settled_count do
  verdicts[i] = settle(unpack(ARGV, next_argument, next_argument + 4))
  next_argument = next_argument + 5
end
acknowledge_settled()
-- What is admitted now is claimed in the same breath, as far as slots are free: the others are told of the rest below.
called_out.r = true
look_at_lines()

-- A worker that lapsed was struck off the roll and its work given to others: it must not claim under the old name.
local lapsed = not redis.call("ZSCORE", workers_key, worker_id)
local promoted = 0
local function promote_and_claim()
  if promote_most > 0 then
    promoted = promote(promote_most)
    admit_in_time()
  end
  if lapsed then
    return
  end
  for i = 1, delivered_count do
    local key = ARGV[next_argument + 1]
    claim(ARGV[next_argument], key ~= "" and key)
    next_argument = next_argument + 2
  end
  for letter in string.gmatch(lanes_wanted, ".") do
    local lane = string.lower(letter)
    free = free - claim_new(lane, lane == letter and free or math.min(free, 1))
  end
end

-- Whatever becomes of the claims, what was promoted must be written down.
local done, problem = pcall(promote_and_claim)
finish_promotion()
look_at_lines()
if not done then
  error(type(problem) == "table" and problem.err or problem, 0)
elseif line_in_trouble then
  refuse(line_in_trouble)
end
if (put.r or 0) > (taken.r or 0) then
  redis.call("PUBLISH", signals_channel, "look:r")
end

-- Of all the workers that wait for the same due time one is the timekeeper and wakes for it exactly; the others come a
-- little later, and find nothing to do as long as it is well.
if promoted > 0 then
  redis.call("SET", timekeeper_key, worker_id, "EX", 60)
end
local lines_left = promote_most > 0 and redis.call("EXISTS", unasked_key) == 1
local next_due = lines_left and now_us or earliest_due()
local due, timekeeper = false, 0
if next_due then
  local keeper = redis.call("GET", timekeeper_key)
  due, timekeeper = int(next_due), (not keeper or keeper == worker_id) and 1 or 0
end
local remaining = false
if census_wanted then
  remaining = redis.call("ZCARD", queue_key) + everybody_waiting()
  for _, stream in pairs(lanes) do
    remaining = remaining + redis.call("XLEN", stream)
  end
end
return { lapsed and 1 or 0, now_text, due, timekeeper, remaining, verdicts, claimed, rules_version() }
