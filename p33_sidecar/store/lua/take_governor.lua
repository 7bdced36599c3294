-- Takes the Governor's permit alone (APPLY_GATE=governor), by the very bytes that were judged, or refuses.
-- KEYS[1..4] as in _switches  [5] governor permit  [6] taken stream  [7] order intents
-- ARGV[1] governor bytes  [2] plan_id  [3] symbol  [4] mark  [5] not after (ms)  [6] life of the mark (ms)
-- ARGV[7] record json  [8] order intent, or empty  [9] 1: only look
-- Returns {'taken', when} | {'free', now} | {refusal, now} | {'changed', now}: read again
--!include _switches
local now = server_ms()
local off = switched_off(ARGV[4])
if off == 'taken' then return say('taken', redis.call('PEXPIRETIME', KEYS[1]) - ARGV[6]) end
if off then return say(off, now) end
if got('GET', KEYS[5]) ~= ARGV[1] or now > tonumber(ARGV[5]) then return say('changed', now) end
if ARGV[9] == '1' then return say('free', now) end
if not mark_taken(ARGV[4], ARGV[6], KEYS[6], ARGV[2], ARGV[3], ARGV[7], KEYS[7], ARGV[8]) then
  return say('redis_unavailable', now)
end
redis.call('DEL', KEYS[5])
return say('taken', now)
