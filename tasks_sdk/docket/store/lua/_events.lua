-- Events in the documented JSON: of states (all eight fields each time), of progress. Needs: _house.

-- Whole seconds → '"2025-01-15T10:30:05.' (Howard Hinnant, chrono-compatible low-level date algorithms)
local function second_of(whole)
  local day = math.floor(whole / 86400)
  local rest = whole - day * 86400
  local z = day + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('"%04d-%02d-%02dT%02d:%02d:%02d.', year, month, doy - math.floor((153 * mp + 2) / 5) + 1,
    math.floor(rest / 3600), math.floor(rest / 60) % 60, rest % 60)
end

-- Formatting costs more than publishing. Most of a batch lies within a few seconds, and many executions share their moments to
-- the microsecond.
local seconds, moments = {}, {}

local function moment(us)
  if not us then
    return "null"
  end
  local text = moments[us]
  if text then
    return text
  end
  local number = tonumber(us)
  local whole = math.floor(number / 1000000)
  local part = number - whole * 1000000
  if number > 9007199254740992 then
    -- After the year 2255, which is more than a double holds: by its digits. The last moments of 9999 would be in 10000, which
    -- nobody can read.
    whole, part = string.match(us, "^(%d+)(%d%d%d%d%d%d)$")
    whole = tonumber(whole)
    if not whole or whole > 253402300799 then
      whole, part = 253402300799, "999999"
    end
  end
  local second = seconds[whole]
  if not second then
    second = second_of(whole)
    seconds[whole] = second
  end
  text = string.format('%s%06dZ"', second, part)
  moments[us] = text
  return text
end

local now_moment = moment(now_text)

-- A worker id is the worker's name, "/", and what tells its incarnations apart.
local function quoted_name(worker_id)
  if not worker_id then
    return "null"
  end
  return cjson.encode((string.gsub(worker_id, "/[^/]*$", "")))
end

local function state_event(key, state, when_us, name, started, completed, problem)
  return '{"type":"state","key":' .. cjson.encode(key) .. ',"state":"' .. state .. '","when":' .. moment(when_us)
    .. ',"worker":' .. name .. ',"started_at":' .. started .. ',"completed_at":' .. completed
    .. ',"error":' .. (problem and cjson.encode(problem) or "null") .. "}"
end

-- Of so many keys it is worth asking who hears; those that are known to have no listener.
local many = 8
local unheard = {}
--@later "_audience"

local function announce(key, state, when_us, name, started, completed, problem)
  if unheard[key] then
    return
  end
  redis.call("PUBLISH", state_channel .. key, state_event(key, state, when_us, name, started, completed, problem))
end

-- `p`: current, total, message, updated_at as the hash has them
local function progress_event(key, p)
  return '{"type":"progress","key":' .. cjson.encode(key) .. ',"current":' .. (p[1] or "0") .. ',"total":'
    .. (p[2] or "100") .. ',"message":' .. (p[3] and cjson.encode(p[3]) or "null")
    .. ',"updated_at":' .. (p[4] and cjson.encode(p[4]) or "null") .. "}"
end
