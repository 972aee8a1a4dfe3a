-- queued (held) → queued (due): rules are lifted, what they held goes back in line, and perhaps a rule is added
local stream_key = KEYS[1]
local prefix = ARGV[1]
local judged_by = ARGV[2]
local func = ARGV[3]
local parameter = ARGV[4]
local operator = ARGV[5]
local hold = ARGV[6]
local value = ARGV[7]
--@include "_house"
--@include "_strikes"
--@later "_foreign"
--@include "_release"

-- Which rules are lifted was found out by somebody who knew other rules: let that be done again.
if rules_version() ~= judged_by then
  return "stale"
end
check_ours()
for i = 8, #ARGV do
  redis.call("XDEL", strikes_key, ARGV[i])
  if redis.call("EXISTS", held_by .. ARGV[i]) == 1 then
    redis.call("SADD", lifted_key, ARGV[i])
  end
end
if operator ~= "" then
  redis.call("XADD", strikes_key, "*", "function", func, "parameter", parameter, "operator", operator, "hold", hold,
    "value", value)
end
release_held(500)
return rules_version()
