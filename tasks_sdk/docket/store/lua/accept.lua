-- queued → running: what a blocked read has just brought to this worker; sent right behind that read
local stream_key = KEYS[1]
local prefix = ARGV[1]
local worker_id = ARGV[2]
local since = ARGV[3]
--@include "_house"
--@include "_events"
--@include "_lines"
--@later "_cancel"
--@include "_ahead"
local worker_name = quoted_name(worker_id)
--@include "_claim"
--@include "_strikes"

-- It is the latest that this worker was given. But that may also be what an exchange of its own was given meanwhile, which
-- runs here already, or whose limits are being asked for: so only what is certainly nobody's claim yet is claimed. Nor is what
-- may be put off (it is shunned here), for nobody would learn when it is due. The rest is claimed by name, in the next exchange.
local most = 3
local given = read_group("d", most, since)
local latest = #given < most and given[#given]
local key = latest and key_of(latest[2])
if not key then
  return { 0, claimed, 0, "" }
elseif not redis.call("ZSCORE", workers_key, worker_id) then
  return { 1, claimed, 0, "" }
end
local entry = "d:" .. latest[1]
local r, more = read_record(key)
if r[1] == "queued" and r[2] == entry and r[3] and not more[7] and not more[10] and not is_limited(r[3]) then
  fresh[entry] = { record = r, more = more } -- as of what was just promoted, its record is not read again
  claim(entry, key)
  look_at_lines()
end

-- What is given out is given out in order, so nobody waits in this lane if nothing has come behind it.
local behind = #redis.call("XRANGE", stream_key, "(" .. latest[1], "+", "COUNT", 1)
return { 0, claimed, behind, rules_version() }
