-- What a verdict on a plan of a symbol rests on, as a list of texts: read in one step, compared in another.
-- KEYS[1] plan's symbol's snapshot  [2] book  [3] ledger hash  [4] open permit  [5] plan mark  [6] halt
-- KEYS[7] halt of the symbol  [8] hold  [9] result stream  [10] taken mark of the plan
-- KEYS[11] taken mark of the plan that the symbol's last ALLOW is believed to be for, else the plan's own again
-- Never writes. A key of another type reads as `!`: what that means is for the rules to say, never that there is none.
-- The server runs this for every verdict, and every command in it costs two to five microseconds: few, none twice.

local SEP = '\31'
local NO_VIEW = string.rep(SEP, 7)

local function text(value)
  if type(value) == 'table' and value.err then return '!' end
  return value or ''
end

local function joined(values, last)
  if values.err then return '!' end
  for i = 1, last or #values do values[i] = values[i] or '' end
  return table.concat(values, SEP, 1, last)
end

-- MGET cannot tell a key of another type from one that is not there, and the switches count whatever they hold: one
-- EXISTS over all of them says whether there is anything to look at more closely.
local function texts_and_switches()
  local names = {'quantum:p33:run_id', 'quantum:p33:venue', 'quantum:p33:gap', KEYS[4], KEYS[10], KEYS[5], KEYS[11]}
  local values = redis.call('MGET', unpack(names))
  local read = 0
  for i = 1, #names do
    if values[i] then read = read + 1 else values[i] = '' end
  end
  local there = redis.call('EXISTS', KEYS[6], KEYS[7], KEYS[8], unpack(names))
  if there == read then return values, '0', '0' end
  for i = 1, #names do
    if values[i] == '' and redis.call('EXISTS', names[i]) == 1 then values[i] = text(redis.pcall('GET', names[i])) end
  end
  return values, tostring(redis.call('EXISTS', KEYS[6], KEYS[7])), tostring(redis.call('EXISTS', KEYS[8]))
end

-- The book's text, and whether the ledger's hash is the view of it: any difference was made by somebody else.
local function book_and_view()
  local kept = redis.pcall('HMGET', KEYS[2], 'amt', 'rev', 'source', 'last_order_id', 'last_order_ms', 'updated_epoch',
                           'opened_ms', 'ver', 'unsettled', 'tampered', 'gap_cleared_ms', 'view')
  local book = joined(kept, 11)
  if book == '!' then return '!', '!' end
  local view = joined(redis.pcall('HMGET', KEYS[3], 'last_known_amt', 'last_known_side', 'last_order_id',
                                  'last_order_time_epoch', 'last_order_time_ms', 'last_update_ts', 'rev', 'source'))
  if view ~= '!' and (not kept[12] or view == kept[12] or view == NO_VIEW) then return book, 'ok' end
  return book, 'changed'
end

-- The last result that is booked. Who issues says what he knows to be booked, which may be less, never more.
local function booked_to(stream)
  local cursor = redis.pcall('HGET', 'quantum:p33:cursor', stream)
  if type(cursor) == 'table' then return nil end
  return cursor and string.match(cursor, '^%S+') or '0-0'
end

-- A stream entry is `unbooked` for us when it names our symbol or plan, or cannot be told. Read from the end: from
-- the other one the server would walk through up to a hundred booked entries to find where ours begin.
local function unbooked(stream, symbol, plan_id, after)
  after = after or booked_to(stream)
  if not after then return '!' end
  local entries = redis.pcall('XREVRANGE', stream, '+', '(' .. after, 'COUNT', 50)
  if entries.err then return '!' end
  for _, entry in ipairs(entries) do
    local named = false
    local pairs_ = entry[2]
    for i = 1, #pairs_, 2 do
      if pairs_[i] == 'symbol' then
        named = true
        if pairs_[i + 1] == symbol then return '1' end
      elseif pairs_[i] == 'plan_id' and pairs_[i + 1] == plan_id then
        return '1'
      end
    end
    if not named then return '1' end
  end
  return #entries == 50 and '1' or '0'
end

-- Bytes that are no UTF-8 (a taker's raw token, somebody's value) reach the reader as other bytes, and what he expects
-- would never be found again: each such value is given out with `?` for what is not ASCII.
local UTF8 = {
  '[\194-\223][\128-\191]', '\224[\160-\191][\128-\191]', '[\225-\236\238\239][\128-\191][\128-\191]',
  '\237[\128-\159][\128-\191]', '\240[\144-\191][\128-\191][\128-\191]',
  '[\241-\243][\128-\191][\128-\191][\128-\191]', '\244[\128-\143][\128-\191][\128-\191]',
}

local function legible(values)
  if not string.find(table.concat(values), '[\128-\255]') then return values end
  for i, value in ipairs(values) do
    local rest = value
    for _, one in ipairs(UTF8) do rest = string.gsub(rest, one, ' ') end
    if string.find(rest, '[\128-\255]') then values[i] = string.gsub(value, '[\128-\255]', '?') end
  end
  return values
end

local function taken_of(issued, believed)
  local plan_id = string.match(issued, '^(%S+) ')
  if not plan_id then return '' end
  local key = 'quantum:p33:taken:' .. plan_id
  local value = key == KEYS[11] and believed or text(redis.pcall('GET', key))
  if value == '' then return '' end
  return value .. ' ' .. redis.call('PEXPIRETIME', key)
end

local function state(symbol, plan_id, after)
  local texts, halted, held = texts_and_switches()
  local book, view = book_and_view()
  local issued = text(redis.pcall('HGET', 'quantum:p33:issued', symbol))
  return legible({
    texts[1], texts[2], halted, held, texts[3],
    joined(redis.pcall('HMGET', KEYS[1], 'position_amt', 'side', 'entry_price', 'mark_price', 'leverage',
                       'unrealized_pnl', 'ts_ms', 'source')),
    book, view, issued, texts[4], taken_of(issued, texts[7]), texts[6], texts[5],
    unbooked(KEYS[9], symbol, plan_id, after),
  })
end

local function ms_of(time) return time[1] * 1000 + math.floor(time[2] / 1000) end

local function ms_text(time) return string.format('%.0f', ms_of(time)) end
