"""The scripts by which a provider's messages are sorted by tenant, dealt out and counted.

A message is pushed to the provider's list. Workers move it from there to the list of its tenant and
deal from these in turn. It is in one list or the other at any time, so a worker that dies loses
none but those that it was dealt; and what stands where is read from the lists themselves: there is
no count that could drift.

The round is a ZSET of the tenants that have messages, the next in turn first. Every message that
is moved makes sure that its tenant is in the round, so a lost entry mends itself. The baton is a
LIST that holds one element while messages stand in tenants' lists: whoever waits with free slots
wakes by it. Redis serves nobody else while a script runs, so each moves a bounded number.
"""

from __future__ import annotations

import re
from typing import Final

#: Messages that one run of a script moves from the provider's list, and about how many bytes.
MOST_SORTED: Final = 1_000
MOST_BYTES: Final = 4_194_304

#: Whose list takes what does not begin as our own messages do: it is dealt too, and reported.
NOBODY: Final = "nobody"

_ID: Final = rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_HEAD: Final = re.compile(rb'\{"v":1,"correlation_id":"%s","tenant_id":"(%s)"' % (_ID, _ID))

# What `encode` writes, as far as it is read here. Patterns of Lua cannot count: a class a digit.
_LUA: Final = """
local function digits(count) return string.rep('[0-9a-f]', count) end
local id = digits(8) .. string.rep('%-' .. digits(4), 3) .. '%-' .. digits(12)
local head = '^{"v":1,"correlation_id":"' .. id .. '","tenant_id":"(' .. id .. ')"'
local stamp = head .. ',"attempt":%d+,"published_at":"([^"]+)"'
local function tenant_of(message) return string.match(message, head) or 'nobody' end
"""

# KEYS 1 -> provider's list, 2 -> round, 3 -> baton
# ARGV 1 -> what the names of tenants' lists begin with, 2 -> messages to sort, 3 -> bytes, at most
#      4 -> a message to put back first ('': none), 5 -> free slots (0: only sort),
#      6 -> how many times the free slots a tenant may hold (-1: no bound),
#      7 -> how many of its messages may be on their way to a lease (-1: no bound),
#      8, 9, 10, ... -> a tenant, the slots that it holds, how many of these are on their way
# Deals one message a tenant in turn, as long as that tenant holds few enough slots and has few
# enough on their way. A tenant that holds none may have the last slot. Nothing is dealt while
# anything is unsorted: whoever stands at the far end of a long list has the same right.
# Returns {how many are unsorted, how many tenants still have messages, messages dealt ...}.
DEAL: Final = (
    _LUA
    + """
local lists, free = ARGV[1], tonumber(ARGV[5])
local ratio, pace = tonumber(ARGV[6]), tonumber(ARGV[7])
if ARGV[4] ~= '' then redis.call('RPUSH', KEYS[1], ARGV[4]) end

local turn = tonumber(redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2] or 0)
local room, bytes = tonumber(ARGV[2]), tonumber(ARGV[3])
while room > 0 and bytes > 0 do
  local found = redis.call('RPOP', KEYS[1], math.min(room, 20))
  if not found then break end
  local pushes, order = {}, {}
  for _, message in ipairs(found) do
    local tenant = tenant_of(message)
    if not pushes[tenant] then
      pushes[tenant] = {lists .. tenant}
      order[#order + 1] = tenant
    end
    table.insert(pushes[tenant], message)
    bytes = bytes - #message
  end
  for _, tenant in ipairs(order) do
    redis.call('LPUSH', unpack(pushes[tenant]))
    turn = turn + redis.call('ZADD', KEYS[2], 'NX', turn + 1, tenant)
  end
  room = room - #found
end

local unsorted = redis.call('LLEN', KEYS[1])
local answer = {unsorted, 0}
if unsorted == 0 and free > 0 then
  local held, coming, holders = {}, {}, 0
  for i = 8, #ARGV, 3 do
    held[ARGV[i]], coming[ARGV[i]] = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
    holders = holders + 1
  end
  local waiting = redis.call('ZRANGE', KEYS[2], 0, free + holders - 1)
  local served, empty, going = {}, {}, true
  while going do
    going = false
    for _, tenant in ipairs(waiting) do
      local has, on_way = held[tenant] or 0, coming[tenant] or 0
      local may = ratio < 0 or has == 0 or has + 1 <= ratio * (free - 1)
      may = may and (pace < 0 or on_way < pace)
      if free > 0 and may and not empty[tenant] then
        local message = redis.call('RPOP', lists .. tenant)
        if message then
          answer[#answer + 1] = message
          held[tenant], coming[tenant] = has + 1, on_way + 1
          served[tenant], free, going = #answer, free - 1, true
        else
          empty[tenant] = true
        end
      end
    end
  end
  for _, tenant in ipairs(waiting) do
    if redis.call('EXISTS', lists .. tenant) == 0 then
      redis.call('ZREM', KEYS[2], tenant)
    elseif served[tenant] then
      redis.call('ZADD', KEYS[2], turn + served[tenant], tenant)
    end
  end
end

answer[2] = redis.call('ZCARD', KEYS[2])
if answer[2] == 0 then
  redis.call('DEL', KEYS[3])
elseif redis.call('EXISTS', KEYS[3]) == 0 then
  redis.call('LPUSH', KEYS[3], '1')
end
return answer
"""
)

# KEYS 1 -> round, 2 -> baton
# ARGV 1 -> what the names of tenants' lists begin with, 2, 3, ... -> messages, the newest first
# Puts messages back before all others of their tenants, and these tenants before all others.
GIVE_BACK: Final = (
    _LUA
    + """
local turn = tonumber(redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] or 0)
for i = 2, #ARGV do
  local tenant = tenant_of(ARGV[i])
  turn = turn - 1
  redis.call('RPUSH', ARGV[1] .. tenant, ARGV[i])
  redis.call('ZADD', KEYS[1], turn, tenant)
end
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('LPUSH', KEYS[2], '1') end
"""
)

# KEYS 1 -> provider's list, 2 -> round; ARGV 1 -> what the names of tenants' lists begin with
# Returns {how many are unsorted, when their oldest was published,
#          a tenant, how many it has, when its oldest was published, ...}; '' for an unreadable one.
STANDING: Final = (
    _LUA
    + """
local function published(list)
  local _, at = string.match(redis.call('LINDEX', list, -1) or '', stamp)
  return at or ''
end
local answer = {redis.call('LLEN', KEYS[1]), published(KEYS[1])}
for _, tenant in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  local list = ARGV[1] .. tenant
  local n = #answer
  answer[n + 1], answer[n + 2], answer[n + 3] = tenant, redis.call('LLEN', list), published(list)
end
return answer
"""
)


def tenant_of(raw: bytes) -> str:
    """Whose list a message belongs to; reads no more than the scripts do."""
    matched = _HEAD.match(raw)
    return matched[1].decode() if matched else NOBODY
