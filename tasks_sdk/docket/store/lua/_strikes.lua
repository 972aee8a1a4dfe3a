-- Which rules are in effect, in one word. Needs: _house.
-- Every change of the log either adds an entry, which moves the last id on, or only removes some, which makes it shorter:
-- so the two together name one state of it, and nothing names none. No rule is the usual case, and costs one XLEN.
local function rules_version()
  local length = redis.call("XLEN", strikes_key)
  if length == 0 then
    return ""
  end
  local facts = redis.call("XINFO", "STREAM", strikes_key)
  for i = 1, #facts, 2 do
    if facts[i] == "last-generated-id" then
      return length .. ":" .. facts[i + 1]
    end
  end
end
