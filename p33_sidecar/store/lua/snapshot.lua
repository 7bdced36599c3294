-- Writes a poll's snapshots, never a younger one over by an older, and ends open permits whose amount they contradict.
-- KEYS[1] snapshots stream  [2] row versions
-- ARGV[1] JSON [[symbol, ts_ms, amt, [field, value, ...]], ...]  [2] life (ms)  [3] poll_id or empty  [4] poll record json
-- ARGV[5] JSON [symbol, update_time_ms, ...] versions that changed
-- Returns the symbols whose snapshot in the store is newer than ours
--!include _ending
for key, kind in pairs({[KEYS[1]] = 'stream', [KEYS[2]] = 'hash', ['quantum:p33:issued'] = 'hash'}) do
  local found = redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= kind then return redis.error_reply(key .. ' holds another type of value: nothing was written') end
end
local newer = {}
local issued = {}
local lines = redis.call('HGETALL', 'quantum:p33:issued')
for i = 1, #lines, 2 do issued[lines[i]] = string.match(lines[i + 1], '^%S+ %S+ %d+ %d+ (%S+)') end
for _, row in ipairs(cjson.decode(ARGV[1])) do
  local symbol, ts, amt, values = row[1], row[2], row[3], row[4]
  local key = 'quantum:position:snapshot:' .. symbol
  local seen = redis.pcall('HGET', key, 'ts_ms')
  if type(seen) == 'table' and seen.err then
    redis.call('DEL', key)
    seen = false
  end
  if seen and (tonumber(seen) or 0) > tonumber(ts) and tonumber(seen) <= tonumber(ARGV[6]) then
    newer[#newer + 1] = symbol
  else
    redis.call('HSET', key, unpack(values))
    redis.call('PEXPIRE', key, ARGV[2])
    if amt == '' then redis.call('HDEL', key, 'position_amt') end
    if issued[symbol] and issued[symbol] ~= amt then end_open(symbol, 'quantum:p33:open:' .. symbol, 'facts_changed') end
  end
end
local versions = cjson.decode(ARGV[5])
for i = 1, #versions, 2 do redis.call('HSET', KEYS[2], versions[i], versions[i + 1]) end
if ARGV[3] ~= '' then redis.call('XADD', KEYS[1], '*', 'poll_id', ARGV[3], 'json', ARGV[4]) end
return newer
