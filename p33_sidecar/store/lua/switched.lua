-- Journals a kill switch that came or went without a word. Once, however many look: what it was must still be noted.
-- KEYS[1] the switch  [2] events  [3] journalled switches
-- ARGV[1] symbol or `*`  [2] as noted, or empty  [3] as it was found, or empty  [4] kind of the event  [5] its json
-- `=<value>` a text, `!` another type of value, empty: there is none. Returns 1 if it was said, 0 if things have moved
local function found()
  local value = redis.pcall('GET', KEYS[1])
  if type(value) == 'table' then return '!' end
  return value and '=' .. value or ''
end
if found() ~= ARGV[3] or (redis.call('HGET', KEYS[3], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('XADD', KEYS[2], '*', 'kind', ARGV[4], 'json', ARGV[5])
if ARGV[3] == '' then redis.call('HDEL', KEYS[3], ARGV[1]) else redis.call('HSET', KEYS[3], ARGV[1], ARGV[3]) end
return 1
