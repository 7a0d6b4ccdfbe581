-- For wrk: GET /items/{id} of the first so many items, in turn, from a place of its own for each thread.
local last = tonumber(os.getenv("ITEMS") or "1000")
local query = os.getenv("QUERY") or ""
local threads = 0
local id = 0

function setup(thread)
  thread:set("first", threads * 37)
  threads = threads + 1
end

function init()
  id = first
end

function request()
  id = id % last + 1
  return wrk.format("GET", "/items/" .. id .. query)
end

function done(summary, latency)
  io.write(string.format(
    '\n{"requests": %d, "microseconds": %d, "failed": %d, "p50_ms": %.2f, "p95_ms": %.2f, "p99_ms": %.2f}\n',
    summary.requests, summary.duration,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(95) / 1000, latency:percentile(99) / 1000))
end
