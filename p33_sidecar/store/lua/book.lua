-- Changes the book of one symbol: orders seen, amount, view, journal, and the cursor past the result that caused it,
-- in one step. Refuses anything but the book's known version and the cursor's next entry. Types are looked at before
-- the first write, since a script that fails half-way keeps what it wrote.
-- KEYS[1] book  [2] ledger hash  [3] orders  [4] unsettled  [5] journal  [6] cursor  [7] open permit  [8] plan mark
-- KEYS[9] books  [10] result stream
-- ARGV[1] JSON: {symbol, ver, new_ver, cursor?: {stream, from, to, id}, quiet_after?: id, book?: [f, v, ...],
--   view?: [f, v, ...], marks: [f, v, ...], unsettled: [f, v, ...], settled: [f, ...], journal: [json, ...], plan_id?,
--   result_ms?, ending?: over|other}
-- ARGV[2] life of the ledger hash (ms)  [3] life of the plan's mark (ms)
-- Returns {'booked', permit that ended or ''} | {'moved'} | {'cursor'} | {'wrong_type', key}
--!include _ending
local op = cjson.decode(ARGV[1])
local ledger_ttl, plan_ttl = ARGV[2], ARGV[3]

for i, kind in pairs({[1] = 'hash', [3] = 'hash', [4] = 'hash', [5] = 'stream', [6] = 'hash', [9] = 'set'}) do
  local found = redis.call('TYPE', KEYS[i]).ok
  if found ~= 'none' and found ~= kind then return {'wrong_type', KEYS[i]} end
end

local function first_after(id) return redis.call('XRANGE', KEYS[10], '(' .. id, '+', 'COUNT', 1)[1] end

if (redis.call('HGET', KEYS[1], 'ver') or '0') ~= op.ver then return {'moved'} end
if op.cursor then
  if (redis.call('HGET', KEYS[6], op.cursor.stream) or '0-0 0') ~= op.cursor.from then return {'cursor'} end
  local next_entry = first_after(string.match(op.cursor.from, '^%S+'))
  if not next_entry or next_entry[1] ~= op.cursor.id then return {'cursor'} end
end
if op.quiet_after and first_after(op.quiet_after) then return {'cursor'} end

for i = 1, #op.marks, 2 do redis.call('HSET', KEYS[3], op.marks[i], op.marks[i + 1]) end
for i = 1, #op.unsettled, 2 do redis.call('HSET', KEYS[4], op.unsettled[i], op.unsettled[i + 1]) end
for _, field in ipairs(op.settled) do redis.call('HDEL', KEYS[4], field) end
for _, entry in ipairs(op.journal) do redis.call('XADD', KEYS[5], '*', 'symbol', op.symbol, 'json', entry) end
if op.book then
  local before = redis.call('HGET', KEYS[1], 'rev')
  redis.call('HSET', KEYS[1], 'ver', op.new_ver, unpack(op.book))
  redis.call('SADD', KEYS[9], op.symbol)
  if before and before ~= redis.call('HGET', KEYS[1], 'rev') then end_open(op.symbol, KEYS[7], 'facts_changed') end
end
if op.view then
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], unpack(op.view))
  redis.call('PEXPIRE', KEYS[2], ledger_ttl)
end

local ended = ''
if op.plan_id then
  local mark = redis.pcall('GET', KEYS[8])
  local verdict = type(mark) == 'string' and string.match(mark, '^(.*\31)%d*$') or '\31\31\31\31'
  redis.call('SET', KEYS[8], verdict .. op.result_ms, 'PX', plan_ttl)
  local plan_id, nonce, issued_ms = issued_of(op.symbol)
  if plan_id == op.plan_id then
    local taken = redis.pcall('GET', 'quantum:p33:taken:' .. plan_id)
    local is_taken = type(taken) == 'string' and string.sub(taken, 1, #nonce + 1) == nonce .. ' '
    local ends = is_taken and op.ending ~= 'other' or not is_taken and tonumber(op.result_ms) >= tonumber(issued_ms)
    if ends then
      redis.call('HDEL', 'quantum:p33:issued', op.symbol)
      if redis.pcall('GET', KEYS[7]) == plan_id .. ' ' .. nonce then redis.call('DEL', KEYS[7]) end
      ended = plan_id
    end
  end
end
if op.cursor then redis.call('HSET', KEYS[6], op.cursor.stream, op.cursor.to) end
return {'booked', ended}
