-- Takes both permits of a plan, or neither. Names the first thing that is wrong; deletes nothing then.
-- The caller has read both permits, verified ours and judged their contents; it takes by the very bytes it judged.
-- KEYS[1] governor permit  [2] our permit  [3] taken mark  [4] halt  [5] halt of the symbol  [6] hold  [7] open permit
-- KEYS[8] snapshot  [9] ledger hash  [10] taken stream  [11] ended mark
-- ARGV[1] governor bytes  [2] our bytes  [3] plan_id  [4] symbol  [5] nonce  [6] token  [7] exchange amount  [8] ledger rev
-- ARGV[9] max snapshot age (ms)  [10] expires_ms  [11] life of the mark (ms)  [12] record json  [13] run id  [14] order intent
-- Returns {'taken', now} | {refusal, now} | {'changed', now}: read again
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function say(word) return {word, string.format('%.0f', now)} end
local function got(command, ...)
  local value = redis.pcall(command, ...)
  if type(value) == 'table' and value.err then return false end
  return value
end

local mark = got('GET', KEYS[3])
if mark then return say(mark == ARGV[5] .. ' ' .. ARGV[6] and 'taken' or 'already_consumed') end
if redis.call('EXISTS', KEYS[3]) == 1 then return say('already_consumed') end
if redis.call('EXISTS', KEYS[4], KEYS[5]) > 0 then return say('halted') end
if redis.call('EXISTS', KEYS[6]) > 0 then return say('reconcile_hold_active') end
if got('GET', KEYS[1]) ~= ARGV[1] or got('GET', KEYS[2]) ~= ARGV[2] then return say('changed') end
if now >= tonumber(ARGV[10]) then return say('expired_permit') end
local ended = got('GET', KEYS[11])
if got('GET', KEYS[7]) ~= ARGV[3] .. ' ' .. ARGV[5] then
  return say(ended == ARGV[5] .. ' facts_changed' and 'facts_changed' or 'withdrawn')
end
if got('GET', 'quantum:p33:run_id') ~= ARGV[13] then return say('withdrawn') end
local snapshot = redis.pcall('HMGET', KEYS[8], 'position_amt', 'ts_ms')
if snapshot.err or snapshot[1] ~= ARGV[7] then return say('facts_changed') end
local age = now - (tonumber(snapshot[2]) or 0)
if age > tonumber(ARGV[9]) or age < -1000 then return say('facts_changed') end
if got('HGET', KEYS[9], 'rev') ~= ARGV[8] then return say('facts_changed') end
local kind = redis.call('TYPE', KEYS[10]).ok
if kind ~= 'stream' and kind ~= 'none' then return say('redis_unavailable') end

redis.call('SET', KEYS[3], ARGV[5] .. ' ' .. ARGV[6], 'PX', ARGV[11])
redis.call('XADD', KEYS[10], '*', 'plan_id', ARGV[3], 'symbol', ARGV[4], 'json', ARGV[12])
if ARGV[14] ~= '' then redis.call('HSET', 'quantum:p33:taken-orders', ARGV[3], ARGV[14]) end
redis.call('DEL', KEYS[1])
redis.call('DEL', KEYS[2])
return say('taken')
