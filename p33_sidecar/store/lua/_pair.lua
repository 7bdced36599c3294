-- What speaks against taking a permit pair, in the contract's order; 'free' where nothing does. Never writes.
-- The caller has read both permits, verified ours and judged their contents; what is judged here are the very bytes.
-- KEYS[1..4] as in _switches  [5] governor permit  [6] our permit  [7] open permit  [8] snapshot  [9] ledger hash
-- KEYS[10] ended mark  [11] run id
-- ARGV[1] governor bytes  [2] our bytes  [3] plan_id  [4] symbol  [5] nonce  [6] token  [7] exchange amount  [8] ledger rev
-- ARGV[9] max snapshot age (ms)  [10] expires_ms  [11] not after (ms): a request that comes later than its sender waits
-- ARGV[12] run id
-- A server that is not the one our permits were written on may have lost that one was taken: it gives nothing out.
--!include _switches
local function facts_stand(now)
  local snapshot = redis.pcall('HMGET', KEYS[8], 'position_amt', 'ts_ms')
  if snapshot.err or snapshot[1] ~= ARGV[7] then return false end
  local age = now - (tonumber(snapshot[2]) or 0)
  if age > tonumber(ARGV[9]) or age < -1000 then return false end
  return got('HGET', KEYS[9], 'rev') == ARGV[8]
end

local function judged(now)
  local off = switched_off(ARGV[5] .. ' ' .. ARGV[6])
  if off then return off end
  if got('GET', KEYS[5]) ~= ARGV[1] or got('GET', KEYS[6]) ~= ARGV[2] then return 'changed' end
  if now > tonumber(ARGV[11]) then return 'changed' end
  if now >= tonumber(ARGV[10]) then return 'expired_permit' end
  if got('GET', KEYS[7]) ~= ARGV[3] .. ' ' .. ARGV[5] then
    return got('GET', KEYS[10]) == ARGV[5] .. ' facts_changed' and 'facts_changed' or 'withdrawn'
  end
  if got('GET', KEYS[11]) ~= ARGV[12] then return 'withdrawn' end
  return facts_stand(now) and 'free' or 'facts_changed'
end
