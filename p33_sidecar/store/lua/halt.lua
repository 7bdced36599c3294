-- Sets a kill switch and withdraws what is open under it, in one step. Each permit that ends has an event of its own;
-- one that was taken is out of reach, and nobody is told that it was withdrawn.
-- KEYS[1] the switch  [2] events  [3] journalled switches
-- ARGV[1] symbol or empty  [2] value  [3] life in ms or 0  [4] event json  [5] at (ms)  [6] by
-- A switch that stands and would outlast the new one stays as it is: only `resume` makes anything end sooner.
-- Returns {ms that the switch which stays has left (-1: no end), or -2 where the new one was set; the symbols whose
-- permit was withdrawn}
local function is_taken(plan_id, nonce)
  local mark = plan_id and redis.pcall('GET', 'quantum:p33:taken:' .. plan_id)
  return type(mark) == 'string' and string.sub(mark, 1, #nonce + 1) == nonce .. ' '
end

local left = redis.call('PTTL', KEYS[1])
local stays = ARGV[3] ~= '0' and (left == -1 or left > tonumber(ARGV[3]))
if not stays then
  left = -2
  if ARGV[3] == '0' then redis.call('SET', KEYS[1], ARGV[2]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
end
local withdrawn, events = {}, {}
for _, symbol in ipairs(redis.call('HKEYS', 'quantum:p33:issued')) do
  if ARGV[1] == '' or ARGV[1] == symbol then
    local key = 'quantum:p33:open:' .. symbol
    local open = redis.pcall('GET', key)
    local plan_id, nonce = string.match(type(open) == 'string' and open or '', '^(%S+) (%S+)$')
    if not is_taken(plan_id, nonce) and redis.call('DEL', key) == 1 then
      withdrawn[#withdrawn + 1] = symbol
      events[#events + 1] = string.format(
        '{"v":1,"kind":"withdrawal","at_ms":%s,"by":%s,"symbol":%s,"plan_id":%s,"nonce":%s,"why":"halted"}', ARGV[5],
        cjson.encode(ARGV[6]), cjson.encode(symbol), cjson.encode(plan_id or ''), cjson.encode(nonce or ''))
    end
  end
end
if not stays then redis.call('XADD', KEYS[2], '*', 'kind', 'halt', 'json', ARGV[4]) end
for _, event in ipairs(events) do redis.call('XADD', KEYS[2], '*', 'kind', 'withdrawal', 'json', event) end
if not stays then redis.pcall('HSET', KEYS[3], ARGV[1] == '' and '*' or ARGV[1], '=' .. ARGV[2]) end
return {left, withdrawn}
