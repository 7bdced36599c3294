-- Keeps a message that could not be understood, once, and acknowledges it (plans) or passes over it (results).
-- KEYS[1] rejected  [2] seen mark  [3] stream it came from  [4] cursor hash
-- ARGV[1] stream  [2] id  [3] record json  [4] group, or empty  [5] expected cursor, or empty  [6] new cursor
-- Returns 1 recorded, 0 known already, -1 the cursor has moved
if ARGV[5] ~= '' and (redis.call('HGET', KEYS[4], ARGV[1]) or '0-0 0') ~= ARGV[5] then return -1 end
local new = redis.call('EXISTS', KEYS[2]) == 0
if new then
  -- The record is the first write: where its stream holds another type, nothing was written, and the message is kept.
  redis.call('XADD', KEYS[1], '*', 'stream', ARGV[1], 'id', ARGV[2], 'json', ARGV[3])
  redis.call('SET', KEYS[2], '1', 'PX', 3600000)
end
if ARGV[5] ~= '' then redis.call('HSET', KEYS[4], ARGV[1], ARGV[6]) end
if ARGV[4] ~= '' then redis.call('XACK', KEYS[3], ARGV[4], ARGV[2]) end
return new and 1 or 0
