-- Issues a verdict: permit, record, mark and acknowledgement in one step, or nothing at all.
-- It re-checks everything the decision rests on; if something moved, it says what the state is now.
-- KEYS[1..10] as in _state  [11] plan stream  [12] decisions  [13] permit
-- ARGV[1] symbol  [2] plan_id  [3] expected state  [4] decided at (ms)  [5] stream id  [6] group  [7] outcome
-- ARGV[8] retryable 1/0  [9] nonce  [10] expires_ms  [11] issued line (ALLOW)  [12] permit bytes  [13] record bytes
-- ARGV[14] life of the plan's mark (ms)
-- Returns {'issued', now} | {'late', now} | {'moved', now, state...} | {'wrong_type', key}
--!include _state
local now = now_ms()
local now_text = string.format('%.0f', now)
local s = state(ARGV[1], ARGV[2])
if table.concat(s, '\n') ~= ARGV[3] then return {'moved', now_text, unpack(s)} end
if math.abs(now - tonumber(ARGV[4])) > 1000 then return {'late', now_text} end
-- What cannot be read cannot be allowed on. That the other keys hold what is written to them, the reading has told.
local unreadable = s[9] == '!' and 'quantum:p33:issued' or s[12] == '!' and KEYS[5]
if unreadable and ARGV[7] == 'ALLOW' then return {'wrong_type', unreadable} end

-- The record is the first write: where its stream holds another type, nothing was written.
local recorded = redis.pcall('XADD', KEYS[12], '*', 'plan_id', ARGV[2], 'symbol', ARGV[1], 'outcome', ARGV[7],
                             'json', ARGV[13])
if type(recorded) == 'table' and recorded.err then
  return string.find(recorded.err, 'WRONGTYPE', 1, true) and {'wrong_type', KEYS[12]} or recorded
end
if s[12] == '!' then redis.call('PEXPIRE', KEYS[5], 0) end
redis.call('HSET', KEYS[5], 'entry', ARGV[5], 'outcome', ARGV[7], 'retryable', ARGV[8], 'nonce', ARGV[9])
redis.call('PEXPIRE', KEYS[5], ARGV[14])
if ARGV[7] == 'ALLOW' then
  redis.call('HSET', 'quantum:p33:issued', ARGV[1], ARGV[11])
  redis.call('SET', KEYS[4], ARGV[2] .. ' ' .. ARGV[9], 'PXAT', ARGV[10])
end
redis.call('SET', KEYS[13], ARGV[12], 'PXAT', ARGV[10])
redis.pcall('XACK', KEYS[11], ARGV[6], ARGV[5])
return {'issued', now_text}
