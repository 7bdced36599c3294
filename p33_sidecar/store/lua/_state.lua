-- What a verdict on a plan of a symbol rests on, as a list of texts: read in one step, compared in another.
-- KEYS[1] plan's symbol's snapshot  [2] book  [3] ledger hash  [4] open permit  [5] plan mark  [6] halt
-- KEYS[7] halt of the symbol  [8] hold  [9] result stream  [10] taken mark of the plan
-- Never writes. A key of another type reads as `!`, which no expectation ever equals.

local SEP = '\31'
local SNAPSHOT_FIELDS = {'position_amt', 'side', 'entry_price', 'mark_price', 'leverage', 'unrealized_pnl', 'ts_ms', 'source'}
local BOOK_FIELDS = {'amt', 'rev', 'source', 'last_order_id', 'last_order_ms', 'updated_epoch', 'opened_ms',
                     'ver', 'unsettled', 'tampered', 'gap_cleared_ms'}
local VIEW_FIELDS = {'last_known_amt', 'last_known_side', 'last_order_id', 'last_order_time_epoch',
                     'last_order_time_ms', 'last_update_ts', 'rev', 'source'}
local MARK_FIELDS = {'entry', 'outcome', 'retryable', 'nonce', 'result_ms'}

local function text(value)
  if type(value) == 'table' and value.err then return '!' end
  return value or ''
end

local function fields(key, names)
  local values = redis.pcall('HMGET', key, unpack(names))
  if values.err then return nil end
  for i = 1, #names do values[i] = values[i] or '' end
  return values
end

local function joined(key, names)
  local values = fields(key, names)
  return values and table.concat(values, SEP) or '!'
end

-- The ledger's hash is a view of the book: any difference was made by somebody else.
local function view_state(book, ledger_key)
  if book == '!' then return '!' end
  local view = fields(ledger_key, VIEW_FIELDS)
  if not view then return 'changed' end
  local kept = redis.call('HGET', KEYS[2], 'view')
  local now = table.concat(view, SEP)
  if now == (kept or now) then return 'ok' end
  if now == string.rep(SEP, #VIEW_FIELDS - 1) then return 'ok' end
  return 'changed'
end

-- A stream entry is `unbooked` for us when it names our symbol or plan, or cannot be told.
local function unbooked(stream, symbol, plan_id)
  local cursor = redis.call('HGET', 'quantum:p33:cursor', stream)
  local after = cursor and string.match(cursor, '^%S+') or '0-0'
  local entries = redis.pcall('XRANGE', stream, '(' .. after, '+', 'COUNT', 50)
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

local function taken_of(issued)
  local plan_id = string.match(issued, '^%S+')
  if not plan_id then return '' end
  local key = 'quantum:p33:taken:' .. plan_id
  local value = text(redis.pcall('GET', key))
  if value == '' then return '' end
  return value .. ' ' .. redis.call('PEXPIRETIME', key)
end

local function state(symbol, plan_id)
  local issued = text(redis.pcall('HGET', 'quantum:p33:issued', symbol))
  local book = joined(KEYS[2], BOOK_FIELDS)
  return {
    text(redis.pcall('GET', 'quantum:p33:run_id')),
    text(redis.pcall('GET', 'quantum:p33:venue')),
    tostring(redis.call('EXISTS', KEYS[6], KEYS[7])),
    tostring(redis.call('EXISTS', KEYS[8])),
    text(redis.pcall('GET', 'quantum:p33:gap')),
    joined(KEYS[1], SNAPSHOT_FIELDS),
    book,
    view_state(book, KEYS[3]),
    issued,
    text(redis.pcall('GET', KEYS[4])),
    taken_of(issued),
    joined(KEYS[5], MARK_FIELDS),
    text(redis.pcall('GET', KEYS[10])),
    unbooked(KEYS[9], symbol, plan_id),
  }
end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
