-- Batoff Purge in Traffic Server 9, by the Lua plugin that comes with it. In plugin.config:
--
--   tslua.so --states=16 /etc/trafficserver/batoff.lua /run/batoff-trafficserver/rules
--
-- The daemon (batoff-edge, [caches.trafficserver]) keeps its rules in that file. Here each answer is stamped, before it is
-- stored, with what had been purged when its fetch began, and each hit is judged by the rules that came after. A hit is a
-- miss whenever anything is not known: no file, no stamp, no lease, an error in this script.
--
-- Stamp and tags are headers whose names begin with @: Traffic Server stores those, and neither shows them to visitors and
-- origins nor takes them from either. With the word `children` behind the file's path the origin's Cache-Tag is passed on
-- as well, for caches in front of this one that purge by tag.
--
-- Not stored is what no purge could name: under a hostname of no site, or one that is not spelt as it should be; what was
-- asked with a body; and what a cache of ours behind this one marks as stale.

local ffi = require 'ffi'
local bit = require 'bit'

local byte, char, find, format, lower = string.byte, string.char, string.find, string.format, string.lower
local match, sub, upper = string.match, string.sub, string.upper
local band, bxor, lshift, rshift, tobit = bit.band, bit.bxor, bit.lshift, bit.rshift, bit.tobit
local floor, concat = math.floor, table.concat

ffi.cdef [[
struct batoff_time { long seconds; long nanos; };
int clock_gettime(int clock, struct batoff_time *now);
int open(const char *path, int flags, ...);
int close(int fd);
long lseek(int fd, long offset, int whence);
long pread(int fd, void *buffer, size_t bytes, long offset);
void *mmap(void *at, size_t bytes, int protection, int flags, int fd, long offset);
int munmap(void *at, size_t bytes);
]]

local STAMP, TAGS = '@Batoff-Fill', '@Batoff-Tags'
local MARK = 'X-Batoff-Stale'
local GONE, STALE, FRESH = 2, 1, 0

-- The layout of the file; crates/caches/src/trafficserver/layout.rs draws it. Numbers that change stand there twice
-- and are written from front to back: read from back to front, two that are equal are both whole.
local VERSION = 2
local SUPERSEDED, APPLIED, UNTIL, PROBE = 16, 18, 20, 22
local URL, PREFIX, HOST, UNDER, TAG, SITE, OWNED, OWNED_UNDER, ANY_TAG = 1, 2, 3, 4, 5, 6, 7, 8, 9
local BOOT_AT, EPOCHS_AT, LENGTHS_AT, SLOTS_AT = 1024, 1088, 4096, 16384
local URL_BYTES_MAX = 8192

-- Of one answer. Over it, and with a member that no purge can name, every purge of a tag of its site hits it.
local TAGS_MAX, TAG_BYTES_MAX, TAGS_BYTES_MAX = 1024, 256, 32768

local O_RDONLY_CLOEXEC, PROT_READ, MAP_SHARED, CLOCK_BOOTTIME = 524288, 1, 1, 7

local path = '/run/batoff-trafficserver/rules'
local now = ffi.new('struct batoff_time')
local boot_id
local look = ffi.new('uint8_t[128]')

-- The file in use.
local mapped, mapped_bytes
local numbers, slots, slot_numbers, lengths
local mask, seed_a, seed_b, oldest, epoch
-- Through which position the stamps of each epoch are believed.
local epochs = {}
local looked_at = -1
local has_children = false

function __init__(arguments)
  path = arguments[1] or path
  has_children = arguments[2] == 'children'
end

local function value(at)
  for _ = 1, 8 do
    local second = numbers[at + 1]
    local first = numbers[at]
    if first == second then
      return first
    end
  end
  return nil
end

local function forget()
  if mapped then
    ffi.C.munmap(mapped, mapped_bytes)
    mapped = nil
  end
end

local function map(fd)
  local bytes = tonumber(ffi.C.lseek(fd, 0, 2))
  if bytes <= SLOTS_AT then
    return
  end
  local at = ffi.C.mmap(nil, bytes, PROT_READ, MAP_SHARED, fd, 0)
  if ffi.cast('intptr_t', at) == -1 then
    return
  end
  mapped, mapped_bytes = at, bytes
  local base = ffi.cast('const uint8_t *', at)
  numbers = ffi.cast('const double *', at)
  if ffi.string(base, 8) ~= 'BATOFFTS' or numbers[1] ~= VERSION or bytes ~= SLOTS_AT + (numbers[2] + 1) * 40 then
    return forget()
  end
  -- What another boot has left: its lease is of another clock.
  boot_id = boot_id or io.open('/proc/sys/kernel/random/boot_id'):read('*l')
  if ffi.string(base + BOOT_AT, 36) ~= boot_id then
    return forget()
  end
  mask, oldest = numbers[2], numbers[5]
  seed_a, seed_b = tobit(numbers[3]), tobit(numbers[4])
  epoch = ffi.string(base + EPOCHS_AT, 16)
  epochs = {}
  for n = 0, base[64] - 1 do
    local entry = EPOCHS_AT + 24 * n
    epochs[ffi.string(base + entry, 16)] = numbers[(entry + 16) / 8]
  end
  lengths = base + LENGTHS_AT
  slots = ffi.cast('const int32_t *', base + SLOTS_AT)
  slot_numbers = ffi.cast('const double *', base + SLOTS_AT)
end

-- Whether there is a file to judge by. It is looked for by name once a second: somebody may have removed it, and the
-- daemon made another.
local function ready(second)
  if mapped and second == looked_at and value(SUPERSEDED) == 0 then
    return true
  end
  looked_at = second
  local fd = ffi.C.open(path, O_RDONLY_CLOEXEC)
  if fd < 0 then
    forget()
    return false
  end
  -- Two files differ in the seeds.
  local same = mapped and value(SUPERSEDED) == 0 and ffi.C.pread(fd, look, 128, 0) == 128
    and ffi.string(look, 128) == ffi.string(mapped, 128)
  if not same then
    forget()
    map(fd)
  end
  ffi.C.close(fd)
  return mapped ~= nil and value(SUPERSEDED) == 0
end

-- Fingerprints: two lanes of 32 bits, byte by byte.

local function walk(a, b, text)
  local bytes = ffi.cast('const uint8_t *', text)
  for i = 0, #text - 1 do
    local c = bytes[i]
    a = tobit(a + c)
    a = tobit(a + lshift(a, 10))
    a = bxor(a, rshift(a, 6))
    b = tobit(b + c)
    b = tobit(b + lshift(b, 7))
    b = bxor(b, rshift(b, 9))
  end
  return a, b
end

local function finish(class, a, b)
  a = bxor(a, lshift(class, 12))
  a = tobit(a + lshift(a, 3))
  a = bxor(a, rshift(a, 11))
  a = tobit(a + lshift(a, 15))
  b = bxor(b, lshift(class, 20))
  b = tobit(b + lshift(b, 5))
  b = bxor(b, rshift(b, 13))
  b = tobit(b + lshift(b, 16))
  if a == 0 and b == 0 then
    a = 1
  end
  return a, b
end

-- What stands in the slot of a fingerprint, hard and soft.
local function at(class, a, b)
  a, b = finish(class, a, b)
  local i = band(a, mask)
  while true do
    local first, second = slots[i * 10], slots[i * 10 + 1]
    if first == a and second == b then
      local hard_again, soft_again = slot_numbers[i * 5 + 4], slot_numbers[i * 5 + 3]
      local hard, soft = slot_numbers[i * 5 + 1], slot_numbers[i * 5 + 2]
      if hard ~= hard_again or soft ~= soft_again then
        return math.huge, 0
      end
      return hard, soft
    end
    if first == 0 and second == 0 then
      return 0, 0
    end
    i = band(i + 1, mask)
  end
end

local function under(class, a, b, applied, verdict)
  local hard, soft = at(class, a, b)
  if hard > applied then
    return GONE
  end
  if soft > applied then
    return STALE
  end
  return verdict
end

-- URLs in normal form: what batoff-types makes of them (the WHATWG standard, and unreserved characters unescaped),
-- without what Traffic Server leaves out: an empty query, empty parameters, slashes that lead the path.

local function hex(digit)
  if digit == nil then
    return nil
  elseif digit >= 48 and digit <= 57 then
    return digit - 48
  elseif digit >= 65 and digit <= 70 then
    return digit - 55
  elseif digit >= 97 and digit <= 102 then
    return digit - 87
  end
end

local function is_unreserved(c)
  return c >= 48 and c <= 57 or c >= 65 and c <= 90 or c >= 97 and c <= 122 or c == 45 or c == 46 or c == 95 or c == 126
end

local function ends_in_open_escape(out)
  local n = #out
  return out[n] == '%' or out[n - 1] == '%' and n > 1 and match(out[n] or '', '^%x$') ~= nil
end

-- Appends a text, escaped as the standard does and then with escapes of unreserved characters resolved.
local function append(out, text, escaped)
  text = string.gsub(text, escaped, function(c)
    return format('%%%02X', byte(c))
  end)
  local i, n = 1, #text
  while i <= n do
    local c = byte(text, i)
    local high = c == 37 and hex(byte(text, i + 1))
    local low = high and hex(byte(text, i + 2))
    if low then
      local resolved = high * 16 + low
      if is_unreserved(resolved) and not (hex(resolved) and ends_in_open_escape(out)) then
        out[#out + 1] = char(resolved)
      else
        out[#out + 1] = '%'
        out[#out + 1] = upper(char(byte(text, i + 1)))
        out[#out + 1] = upper(char(byte(text, i + 2)))
      end
      i = i + 3
    else
      out[#out + 1] = char(c)
      i = i + 1
    end
  end
end

local IN_PATH, IN_QUERY = '[%z\1-\32\127-\255"<>`#{}]', '[%z\1-\32\127-\255"<>#\']'
local DOTS = { ['.'] = 1, ['%2e'] = 1, ['..'] = 2, ['.%2e'] = 2, ['%2e.'] = 2, ['%2e%2e'] = 2 }

local function normal_path(path)
  local segments = {}
  local last
  for segment in string.gmatch(sub(path, 2) .. '/', '([^/]*)/') do
    last = DOTS[lower(segment)]
    if last == nil then
      segments[#segments + 1] = segment
    elseif last == 2 then
      -- Parsers differ about what looks like the letter of a drive.
      if find(segments[#segments] or '', '^%a[:|]$') then
        return nil
      end
      segments[#segments] = nil
    end
  end
  if last ~= nil then
    segments[#segments + 1] = ''
  end
  return '/' .. concat(segments, '/')
end

local function reduce(target)
  local path, query = match(target, '^/*([^?]*)%??(.*)$')
  path = match(path, '^([^;]*);$') or match(path, '^(.*/[^/;]*);$') or path
  return query == '' and '/' .. path or '/' .. path .. '?' .. query
end

local function normal(target)
  for _ = 1, 16 do
    local path, mark, query = match(reduce(target), '^([^?]*)(%??)(.*)$')
    path = normal_path((string.gsub(path, '\\', '/')))
    if not path then
      return nil
    end
    local out = {}
    append(out, path, IN_PATH)
    if mark == '?' then
      out[#out + 1] = '?'
      append(out, query, IN_QUERY)
    end
    local made = concat(out)
    if made == target then
      return made
    end
    target = made
  end
  return nil
end

-- Key and hostname of a URL as Traffic Server shows it; nothing when it has no normal form that we can tell.
local function key_of(url)
  local authority, target = match(url, '^%a+://([^/?#]*)([^#]*)')
  local host, port = match(authority or '', '^([%w%-%._]+):?(%d*)$')
  host = host and match(host, '^(.-)%.?$')
  -- Numbers are addresses in one of many spellings.
  if not host or not find(host, '%a[^%.]*$') or find(host, '^0[xX]') or find(host, '%.0[xX][^%.]*$') then
    return nil
  end
  host = lower(host)
  local number = tonumber(port)
  if number and number ~= 80 and number ~= 443 then
    authority = host .. ':' .. format('%d', number)
  else
    authority = host
  end
  if find(target, "[^%w%-%._~/!$&()*+,;=:@?%%]") or find(target, '%', 1, true) or find(target, '/.', 1, true)
    or find(target, '^//') or find(target, '[;?]$') or find(target, ';?', 1, true) or byte(target, 1) ~= 47 then
    -- What ends in dots is another page for Traffic Server's origin than for a browser.
    local last = match(target, '/([^/?]*)%f[?%z]') or match(target, '^[^?]*/([^/?]*)')
    if last and DOTS[lower(last)] then
      return nil
    end
    target = normal(byte(target, 1) == 47 and target or '/' .. target)
    if not target then
      return nil
    end
  end
  if #authority + #target > URL_BYTES_MAX then
    return nil
  end
  return authority .. target, host, authority
end

-- The number of the site that a hostname is of, or 0.
local function owner(host)
  local a, b = walk(seed_a, seed_b, host)
  local number = at(OWNED, a, b)
  local from = 1
  while number == 0 do
    local dot = find(host, '.', from, true)
    if not dot then
      return 0
    end
    from = dot + 1
    a, b = walk(seed_a, seed_b, sub(host, from))
    number = at(OWNED_UNDER, a, b)
  end
  return number
end

local function by_names(url, applied, newer, verdict)
  local key, host = key_of(url)
  if not key then
    return GONE
  end
  if newer[PREFIX] then
    local a, b = seed_a, seed_b
    local bytes = ffi.cast('const uint8_t *', key)
    for i = 0, #key - 1 do
      local c = bytes[i]
      a = tobit(a + c)
      a = tobit(a + lshift(a, 10))
      a = bxor(a, rshift(a, 6))
      b = tobit(b + c)
      b = tobit(b + lshift(b, 7))
      b = bxor(b, rshift(b, 9))
      if lengths[i + 1] ~= 0 then
        verdict = under(PREFIX, a, b, applied, verdict)
        if verdict == GONE then
          return GONE
        end
      end
    end
    if newer[URL] then
      verdict = under(URL, a, b, applied, verdict)
    end
  elseif newer[URL] then
    local a, b = walk(seed_a, seed_b, key)
    verdict = under(URL, a, b, applied, verdict)
  end
  if newer[HOST] and verdict ~= GONE then
    local a, b = walk(seed_a, seed_b, host)
    verdict = under(HOST, a, b, applied, verdict)
  end
  local from = 1
  while newer[UNDER] and verdict ~= GONE do
    local dot = find(host, '.', from, true)
    if not dot then
      break
    end
    from = dot + 1
    local a, b = walk(seed_a, seed_b, sub(host, from))
    verdict = under(UNDER, a, b, applied, verdict)
  end
  if verdict == GONE or not (newer[SITE] or newer[TAG]) then
    return verdict
  end
  local site = owner(host)
  if site == 0 then
    return verdict
  end
  local site_a, site_b = bxor(seed_a, tobit(site % 4294967296)), bxor(seed_b, tobit(floor(site / 4294967296)))
  if newer[SITE] then
    verdict = under(SITE, site_a, site_b, applied, verdict)
  end
  local tags = newer[TAG] and ts.cached_response.header[TAGS]
  if tags and byte(tags, 1) == 44 then
    return under(ANY_TAG, site_a, site_b, applied, verdict)
  elseif tags then
    for tag in string.gmatch(tags, '[^,]+') do
      local a, b = walk(site_a, site_b, tag)
      verdict = verdict ~= GONE and under(TAG, a, b, applied, verdict) or GONE
    end
  end
  return verdict
end

-- Whether this is the request of a check, which is to find nothing stored.
local function is_probe()
  local probe = value(PROBE)
  return probe ~= 0 and ts.client_request.header['X-Batoff-Probe'] == format('%d', probe or 0)
end

local newer = {}

local function judge()
  ffi.C.clock_gettime(CLOCK_BOOTTIME, now)
  local seconds = tonumber(now.seconds)
  if not ready(seconds) then
    return GONE
  end
  local lease = value(UNTIL)
  if not lease or seconds * 1000000 + tonumber(now.nanos) / 1000 >= lease then
    return GONE
  end
  if is_probe() then
    return GONE
  end
  local stamp = ts.cached_response.header[STAMP]
  local last = stamp and epochs[sub(stamp, 1, 16)]
  if not last then
    return GONE
  end
  local applied = tonumber(sub(stamp, 18))
  if not applied or applied > last or applied < oldest then
    return GONE
  end
  local any = false
  for class = URL, SITE do
    -- One that is being written is newer.
    local newest = value(22 + 2 * class)
    local is = not newest or newest > applied
    newer[class] = is
    any = any or is
  end
  if not any then
    return FRESH
  end
  return by_names(ts.client_request.get_pristine_url(), applied, newer, FRESH)
end

-- What is stale was served without the origin's word: so a cache in front does not take it for new.
local function mark_stale()
  local status = ts.server_response.get_status()
  if not status or status == 0 or status >= 500 then
    ts.client_response.header[MARK] = '1'
  end
  return 0
end

function do_global_cache_lookup_complete()
  local status = ts.http.get_cache_lookup_status()
  if status ~= TS_LUA_CACHE_LOOKUP_HIT_FRESH and status ~= TS_LUA_CACHE_LOOKUP_HIT_STALE then
    return 0
  end
  local judged, verdict = pcall(judge)
  if not judged then
    ts.error('batoff.lua: ' .. tostring(verdict))
    verdict = GONE
  end
  if verdict == STALE then
    -- These may not be served stale, whoever asks for it (RFC 9111, 5.2.2.2 and 5.2.2.8).
    local control = lower(ts.cached_response.header['Cache-Control'] or '')
    if find(control, 'must-revalidate', 1, true) or find(control, 'proxy-revalidate', 1, true) then
      verdict = GONE
    end
  end
  if verdict == GONE then
    ts.http.set_cache_lookup_status(TS_LUA_CACHE_LOOKUP_MISS)
  else
    if verdict == STALE then
      ts.http.set_cache_lookup_status(TS_LUA_CACHE_LOOKUP_HIT_STALE)
    end
    if verdict == STALE or status == TS_LUA_CACHE_LOOKUP_HIT_STALE then
      ts.hook(TS_LUA_HOOK_SEND_RESPONSE_HDR, mark_stale)
    end
  end
  return 0
end

local function mark_probed()
  ts.client_response.header['X-Batoff-Probed'] = ts.client_request.header['X-Batoff-Probe']
  return 0
end

-- The moment before the origin is asked, each time that it is.
local function stamp()
  ffi.C.clock_gettime(CLOCK_BOOTTIME, now)
  local is_ready = ready(tonumber(now.seconds))
  if is_ready and is_probe() then
    ts.hook(TS_LUA_HOOK_SEND_RESPONSE_HDR, mark_probed)
  end
  local applied = is_ready and value(APPLIED)
  return applied and epoch .. '.' .. format('%d', applied) or nil
end

function do_global_send_request()
  local made, text = pcall(stamp)
  ts.client_request.header[STAMP] = made and text or nil
  return 0
end

-- Whether no purge can name a tag: too long, white space or control characters in it, or not in UTF-8.
local function is_unnameable(tag)
  if #tag > TAG_BYTES_MAX or find(tag, '[%z\1-\32\127]') then
    return true
  elseif not find(tag, '[\128-\255]') then
    return false
  elseif find(tag, '\194[\128-\160]') or find(tag, '\225\154\128') or find(tag, '\226\128[\128-\138\168\169\175]')
    or find(tag, '\226\129\159') or find(tag, '\227\128\128') then
    return true
  end
  local rest = string.gsub(tag, '[\194-\223][\128-\191]', 'x')
  rest = string.gsub(rest, '[\224-\239][\128-\191][\128-\191]', 'x')
  rest = string.gsub(rest, '[\240-\244][\128-\191][\128-\191][\128-\191]', 'x')
  return find(rest, '[\128-\255]') ~= nil
end

-- Tags as they are compared, with commas between them and none around; one in front: they cannot be told apart.
local function tags_of(text)
  if #text > TAGS_BYTES_MAX then
    return ','
  end
  local tags, count = {}, 0
  for member in string.gmatch(text, '[^,]+') do
    local tag = match(member, '^[ \t\n\r\f]*(.-)[ \t\n\r\f]*$')
    if tag ~= '' then
      count = count + 1
      if count > TAGS_MAX or is_unnameable(tag) then
        return ','
      end
      tags[count] = tag
    end
  end
  return concat(tags, ',')
end

-- All lines of the header; Lua is shown the first of them.
local function tag_lines()
  return ts.server_response.header['Cache-Tag']
end

-- Whether the answer may be stored; then it is stamped.
local function admit()
  local text = ts.client_request.header[STAMP]
  if not text or ts.server_response.header[MARK] then
    return false
  end
  local key, host, authority = key_of(ts.client_request.get_pristine_url())
  if not key or ts.client_request.header['Host'] ~= authority or owner(host) == 0 then
    return false
  end
  local length = ts.client_request.header['Content-Length']
  if length and tonumber(length) ~= 0 or ts.client_request.header['Transfer-Encoding'] then
    return false
  end
  local tags = tag_lines()
  if tags then
    ts.server_response.header[TAGS] = tags_of(tags)
  end
  ts.server_response.header[STAMP] = text
  return true
end

function do_global_read_response()
  -- Answers to other methods are not stored; those that are unsafe take the page out, if nobody interferes.
  if ts.client_request.get_method() == 'GET' then
    local done, may_store = pcall(admit)
    if not done then
      ts.error('batoff.lua: ' .. tostring(may_store))
    end
    if not done or not may_store then
      ts.http.set_server_resp_no_store(1)
    end
  end
  if not has_children then
    ts.server_response.header['Cache-Tag'] = nil
  end
  return 0
end

-- For the test that compares this with the daemon's fingerprints and normal form.
return { key_of = key_of, walk = walk, finish = finish, tags_of = tags_of }
