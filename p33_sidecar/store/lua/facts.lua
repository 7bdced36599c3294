-- Reads what a verdict on a plan rests on. Writes nothing.
-- ARGV[1] symbol  [2] plan_id. Returns the server's time in ms, then the state's texts.
--!include _state
local now = ms_text(redis.call('TIME'))
local s = state(ARGV[1], ARGV[2])
return {now, unpack(s)}
