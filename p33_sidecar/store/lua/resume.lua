-- Lifts a kill switch, and says so. Returns 1 if it was set.
-- KEYS[1] the switch  [2] events  [3] journalled switches   ARGV[1] symbol or empty  [2] event json
local lifted = redis.call('DEL', KEYS[1])
redis.call('XADD', KEYS[2], '*', 'kind', 'resume', 'json', ARGV[2])
redis.pcall('HDEL', KEYS[3], ARGV[1] == '' and '*' or ARGV[1])
return lifted
