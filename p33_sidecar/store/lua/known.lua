-- Says what is known of orders by any of their names, as one moment. Never writes.
-- KEYS[1] orders  [2] book
-- ARGV names. Returns {horizon or '', key, mark, key, mark, ...}, empty texts for a name that leads nowhere
local horizon = redis.pcall('HGET', KEYS[2], 'horizon_ms')
if type(horizon) == 'table' then horizon = '' end
local found = {horizon or ''}
for _, name in ipairs(ARGV) do
  local key, mark = name, redis.call('HGET', KEYS[1], name)
  if mark and string.sub(mark, 1, 1) == '@' then
    key = string.sub(mark, 2)
    mark = redis.call('HGET', KEYS[1], key)
  end
  found[#found + 1] = key
  found[#found + 1] = mark or ''
end
return found
