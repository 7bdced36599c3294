-- Ends the open permit of a symbol for a reason a taker shall hear. A taken permit is not open any more.
local function end_open(symbol, open_key, why)
  local open = redis.pcall('GET', open_key)
  if type(open) ~= 'string' then return false end
  local plan_id, nonce = string.match(open, '^(%S+) (%S+)$')
  local left = redis.call('PTTL', open_key)
  redis.call('DEL', open_key)
  if plan_id and left > 0 then
    redis.call('SET', 'quantum:p33:ended:' .. plan_id, nonce .. ' ' .. why, 'PX', left)
  end
  return plan_id
end

-- plan_id, nonce, issued_ms, expires_ms, amt, rev of the symbol's last ALLOW; nil if there is none
local function issued_of(symbol)
  local line = redis.pcall('HGET', 'quantum:p33:issued', symbol)
  if type(line) ~= 'string' then return nil end
  return string.match(line, '^(%S+) (%S+) (%d+) (%d+) (%S+) (%d+)$')
end
