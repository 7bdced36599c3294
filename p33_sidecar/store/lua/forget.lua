-- Forgets settled orders nobody has told of for long, and remembers how far: behind that horizon a result of an order
-- that is not known is late, and is never booked.
-- KEYS[1] orders  [2] book
-- ARGV[1] horizon (ms)  [2...] key of the mark, mark as read, number of further names, names...; again for the next
-- Returns how many were forgotten
local known = tonumber(redis.call('HGET', KEYS[2], 'horizon_ms') or '0') or 0
if tonumber(ARGV[1]) > known then redis.call('HSET', KEYS[2], 'horizon_ms', ARGV[1]) end
local forgotten, at = 0, 2
while at <= #ARGV do
  local key, mark, names = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  if redis.call('HGET', KEYS[1], key) == mark then
    redis.call('HDEL', KEYS[1], key)
    for i = at + 3, at + 2 + names do
      if redis.call('HGET', KEYS[1], ARGV[i]) == '@' .. key then redis.call('HDEL', KEYS[1], ARGV[i]) end
    end
    forgotten = forgotten + 1
  end
  at = at + 3 + names
end
return forgotten
