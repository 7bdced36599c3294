-- Says what taking a permit pair would say, and takes nothing.
-- KEYS and ARGV as in _pair. Returns {'free' or a refusal, now} | {'changed', now}: read again
--!include _pair
local now = server_ms()
return say(judged(now), now)
