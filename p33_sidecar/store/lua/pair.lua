-- What a client judges a permit pair by, as it is at this moment. Writes nothing.
-- KEYS[1..4] as in _switches  [5] governor permit  [6] our permit  [7] decisions, where their end is asked for
-- Returns {now, mark, halts, holds, governor's bytes, our bytes, id of the last decision}; nil where there is no such key,
-- NUL and `wrong type` where it holds no string
--!include _switches
local function bytes(key)
  local value = redis.pcall('GET', key)
  if type(value) == 'table' and value.err then return '\0wrong type' end
  return value
end

local last = ''
if KEYS[7] then
  local entries = redis.pcall('XREVRANGE', KEYS[7], '+', '-', 'COUNT', 1)
  last = entries[1] and entries[1][1] or '0-0'
end
return {string.format('%.0f', server_ms()), bytes(KEYS[1]), redis.call('EXISTS', KEYS[2], KEYS[3]),
        redis.call('EXISTS', KEYS[4]), bytes(KEYS[5]), bytes(KEYS[6]), last}
