-- What stands before any permit: the plan taken already, the kill switches, the hold. Never writes.
-- KEYS[1] taken mark  [2] halt  [3] halt of the symbol  [4] hold
local function got(command, ...)
  local value = redis.pcall(command, ...)
  if type(value) == 'table' and value.err then return false end
  return value
end

local function server_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function say(word, ms) return {word, string.format('%.0f', ms)} end

-- `ours` is the mark that this very taker would leave, or has left
local function switched_off(ours)
  local mark = got('GET', KEYS[1])
  if mark == ours then return 'taken' end
  if redis.call('EXISTS', KEYS[1]) == 1 then return 'already_consumed' end
  if redis.call('EXISTS', KEYS[2], KEYS[3]) > 0 then return 'halted' end
  if redis.call('EXISTS', KEYS[4]) > 0 then return 'reconcile_hold_active' end
  return nil
end

-- Marks, records and notes the order. Returns false, nothing written, where a key holds another type of value.
local function mark_taken(mark, life_ms, takings, plan_id, symbol, record, intents, intent)
  local kind, noted = redis.call('TYPE', takings).ok, redis.call('TYPE', intents).ok
  if (kind ~= 'stream' and kind ~= 'none') or (noted ~= 'hash' and noted ~= 'none') then return false end
  redis.call('SET', KEYS[1], mark, 'PX', life_ms)
  redis.call('XADD', takings, '*', 'plan_id', plan_id, 'symbol', symbol, 'json', record)
  if intent ~= '' then redis.call('HSET', intents, plan_id, intent) end
  return true
end
