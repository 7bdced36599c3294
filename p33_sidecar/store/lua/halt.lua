-- Sets a kill switch and withdraws what is open under it, in one step.
-- KEYS[1] the switch  [2] events   ARGV[1] symbol or empty  [2] value  [3] life in ms or 0  [4] event json
-- Returns the symbols whose permit was withdrawn
if ARGV[3] == '0' then redis.call('SET', KEYS[1], ARGV[2]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
local withdrawn = {}
for _, symbol in ipairs(redis.call('HKEYS', 'quantum:p33:issued')) do
  if ARGV[1] == '' or ARGV[1] == symbol then
    if redis.call('DEL', 'quantum:p33:open:' .. symbol) == 1 then withdrawn[#withdrawn + 1] = symbol end
  end
end
redis.call('XADD', KEYS[2], '*', 'kind', 'halt', 'json', ARGV[4])
return withdrawn
