-- Writes what became of a plan, acknowledges its entry and forgets its order, in one step. A taking ends in one result.
-- KEYS[1] plan stream  [2] result stream  [3] order intents  [4] taken mark  [5] mark of the entry
-- ARGV[1] entry id  [2] group  [3] plan_id  [4] kind: order (a taken plan's), found (an order of a plan whose taking
--   was lost), other (nothing was taken)  [5] taken mark that belongs to the order  [6] life of the taken mark (ms)
-- ARGV[7] life of the entry's mark (ms)  [8...] field, value, ... of the result
-- Returns the result's id, or empty where there was nothing more to say
local function type_is(key, kind)
  local found = redis.call('TYPE', key).ok
  return found == 'none' or found == kind
end
if not (type_is(KEYS[2], 'stream') and type_is(KEYS[3], 'hash')) then
  return redis.error_reply('WRONGTYPE result stream or order intents hold another type of value')
end

local silent
if ARGV[4] == 'order' then
  silent = redis.call('HEXISTS', KEYS[3], ARGV[3]) == 0
else
  silent = redis.call('EXISTS', KEYS[4], KEYS[5]) > 0
end
local id = ''
if not silent then
  if ARGV[4] == 'found' then redis.call('SET', KEYS[4], ARGV[5], 'PX', ARGV[6]) end
  id = redis.call('XADD', KEYS[2], '*', unpack(ARGV, 8))
  redis.call('SET', KEYS[5], id, 'PX', ARGV[7])
end
if ARGV[4] == 'order' then redis.call('HDEL', KEYS[3], ARGV[3]) end
if ARGV[1] ~= '' then redis.pcall('XACK', KEYS[1], ARGV[2], ARGV[1]) end
return id
