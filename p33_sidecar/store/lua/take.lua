-- Takes both permits of a plan, or neither. Names the first thing that is wrong; deletes nothing then.
-- KEYS[1..11] as in _pair  [12] taken stream  [13] order intents
-- ARGV[1..12] as in _pair  [13] life of the mark (ms)  [14] record json  [15] order intent, or empty
-- Returns {'taken', when} | {refusal, now} | {'changed', now}: read again
--!include _pair
local now = server_ms()
local word = judged(now)
if word == 'taken' then return say('taken', redis.call('PEXPIRETIME', KEYS[1]) - ARGV[13]) end
if word ~= 'free' then return say(word, now) end
local mark = ARGV[5] .. ' ' .. ARGV[6]
if not mark_taken(mark, ARGV[13], KEYS[12], ARGV[3], ARGV[4], ARGV[14], KEYS[13], ARGV[15]) then
  return say('redis_unavailable', now)
end
redis.call('DEL', KEYS[5])
redis.call('DEL', KEYS[6])
return say('taken', now)
