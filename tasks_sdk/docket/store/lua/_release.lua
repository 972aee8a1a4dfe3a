-- queued (held) → queued (due): what lifted rules held goes back in line, by way of the queue. Needs: _house, _foreign.
-- A piece at a time: a hundred thousand at once would keep Redis from others. Until its last piece is out, a rule that is no
-- more stands among the lifted ones, so whoever comes next can go on with it. → how many went
local function release_held(most)
  local released = 0
  for _, rule in ipairs(redis.call("SMEMBERS", lifted_key)) do
    check_ours()
    local piece = gently("ZPOPMIN", held_by .. rule, most - released) or {}
    for i = 1, #piece, 2 do
      piece[i], piece[i + 1] = piece[i + 1], piece[i]
    end
    if #piece > 0 then
      redis.call("ZADD", queue_key, unpack(piece))
      released = released + #piece / 2
    end
    if redis.call("EXISTS", held_by .. rule) == 0 then
      redis.call("SREM", lifted_key, rule)
    end
    if released >= most then
      break
    end
  end
  if released > 0 then
    redis.call("PUBLISH", signals_channel, "due:" .. now_text)
  end
  return released
end
