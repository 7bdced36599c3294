-- Sets aside what cannot be read of a symbol's book and orders, and begins it anew: doubted, denied, and with a horizon,
-- so that no result from before is booked again. Nothing is deleted.
-- KEYS[1] book  [2] orders  [3] open permit  [4] events  [5] books
-- ARGV[1] symbol  [2] at (ms)  [3] event  [4] beginning of the new names  [5...] keys whose contents are wrong
-- Returns the keys that were set aside or found missing
--!include _ending
local wrong, aside = {}, {}
for i = 5, #ARGV do wrong[ARGV[i]] = true end

for i = 1, 2 do
  local kind = redis.call('TYPE', KEYS[i]).ok
  if kind ~= 'none' and (kind ~= 'hash' or wrong[KEYS[i]]) then
    redis.call('RENAME', KEYS[i], ARGV[4] .. KEYS[i] .. ':' .. ARGV[2])
    aside[#aside + 1] = KEYS[i]
  end
end
if #aside == 0 and redis.call('EXISTS', KEYS[1]) == 0 and redis.call('SISMEMBER', KEYS[5], ARGV[1]) == 1 then
  aside[1] = KEYS[1]
end
if #aside == 0 then return aside end

redis.call('HSET', KEYS[1], 'ver', ARGV[2], 'horizon_ms', ARGV[2],
           'tampered', table.concat(aside, ' ') .. ' could not be read at ' .. ARGV[2])
redis.call('SADD', KEYS[5], ARGV[1])
end_open(ARGV[1], KEYS[3], 'facts_changed')
redis.call('XADD', KEYS[4], '*', 'kind', 'tampering', 'json', ARGV[3])
return aside
