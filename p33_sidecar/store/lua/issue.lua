-- Issues a verdict: permit, record, mark and acknowledgement in one step, or nothing at all.
-- It re-checks everything the decision rests on; if something moved, it says what the state is now.
-- KEYS[1..11] as in _state  [12] plan stream  [13] decisions  [14] permit
-- ARGV[1] symbol  [2] plan_id  [3] expected state  [4] decided at (ms)  [5] stream id  [6] group  [7] outcome
-- ARGV[8] nonce  [9] expires_ms  [10] issued line (ALLOW)  [11] permit bytes  [12] record bytes
-- ARGV[13] the plan's mark  [14] its life (ms)  [15] id of a result up to which all are booked, or empty
-- Returns {'issued', now: s, us} | {'late'} | {'moved', now (ms), state...} | {'wrong_type', key}
--!include _state
local time = redis.call('TIME')
local s = state(ARGV[1], ARGV[2], ARGV[15] ~= '' and ARGV[15])
if table.concat(s, '\n') ~= ARGV[3] then return {'moved', ms_text(time), unpack(s)} end
if math.abs(ms_of(time) - tonumber(ARGV[4])) > 1000 then return {'late'} end
-- What cannot be read cannot be allowed on. That the other keys hold what is written to them, the reading has told.
local unreadable = s[9] == '!' and 'quantum:p33:issued' or s[12] == '!' and KEYS[5]
if unreadable and ARGV[7] == 'ALLOW' then return {'wrong_type', unreadable} end

-- The record is the first write: where its stream holds another type, nothing was written.
local recorded = redis.pcall('XADD', KEYS[13], '*', 'plan_id', ARGV[2], 'symbol', ARGV[1], 'outcome', ARGV[7],
                             'json', ARGV[12])
if type(recorded) == 'table' and recorded.err then
  return string.find(recorded.err, 'WRONGTYPE', 1, true) and {'wrong_type', KEYS[13]} or recorded
end
redis.call('SET', KEYS[5], ARGV[13], 'PX', ARGV[14])
if ARGV[7] == 'ALLOW' then
  redis.call('HSET', 'quantum:p33:issued', ARGV[1], ARGV[10])
  redis.call('SET', KEYS[4], ARGV[2] .. ' ' .. ARGV[8], 'PXAT', ARGV[9])
end
redis.call('SET', KEYS[14], ARGV[11], 'PXAT', ARGV[9])
redis.pcall('XACK', KEYS[12], ARGV[6], ARGV[5])
return {'issued', time[1], time[2]}
