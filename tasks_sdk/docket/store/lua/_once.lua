-- A request whose reply was lost is sent again: it is answered as the first time, and does not take place twice. Needs:
-- _house; request.
local answer_key = prefix .. ":answers:" .. request
local answered = redis.call("GET", answer_key)
if answered then
  return cjson.decode(answered)
end

-- Kept for longer than anybody goes on trying.
local function answer(reply)
  redis.call("SET", answer_key, cjson.encode(reply), "EX", 60)
  return reply
end
