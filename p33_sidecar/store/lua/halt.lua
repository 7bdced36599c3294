-- Sets a kill switch and withdraws what is open under it, in one step. Each permit that ends has an event of its own.
-- KEYS[1] the switch  [2] events  [3] journalled switches
-- ARGV[1] symbol or empty  [2] value  [3] life in ms or 0  [4] event json  [5] at (ms)  [6] by
-- Returns the symbols whose permit was withdrawn
if ARGV[3] == '0' then redis.call('SET', KEYS[1], ARGV[2]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
local withdrawn, events = {}, {}
for _, symbol in ipairs(redis.call('HKEYS', 'quantum:p33:issued')) do
  if ARGV[1] == '' or ARGV[1] == symbol then
    local key = 'quantum:p33:open:' .. symbol
    local open = redis.pcall('GET', key)
    if redis.call('DEL', key) == 1 then
      local plan_id, nonce = string.match(type(open) == 'string' and open or '', '^(%S+) (%S+)$')
      withdrawn[#withdrawn + 1] = symbol
      events[#events + 1] = string.format(
        '{"v":1,"kind":"withdrawal","at_ms":%s,"by":%s,"symbol":%s,"plan_id":%s,"nonce":%s,"why":"halted"}', ARGV[5],
        cjson.encode(ARGV[6]), cjson.encode(symbol), cjson.encode(plan_id or ''), cjson.encode(nonce or ''))
    end
  end
end
redis.call('XADD', KEYS[2], '*', 'kind', 'halt', 'json', ARGV[4])
for _, event in ipairs(events) do redis.call('XADD', KEYS[2], '*', 'kind', 'withdrawal', 'json', event) end
redis.pcall('HSET', KEYS[3], ARGV[1] == '' and '*' or ARGV[1], '=' .. ARGV[2])
return withdrawn
