-- no transition: the rules in effect, and the version that names them
local stream_key = KEYS[1]
local prefix = ARGV[1]
--@include "_house"
--@include "_strikes"

return { rules_version(), redis.call("XRANGE", strikes_key, "-", "+") }
