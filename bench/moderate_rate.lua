-- A moderate, fixed rate: each connection thinks for 16 to 48 ms between two requests, at random so
-- that 64 connections do not march in step. Every answer is compared. Ends with one line of JSON.

local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
end

function init(args)
  expected = args[1]
  wrong = 0
  math.randomseed(1)
end

function delay()
  return math.random(16, 48)
end

function response(status, headers, body)
  if status ~= 200 or body ~= expected then
    wrong = wrong + 1
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  local wrong_answers = 0
  for _, thread in ipairs(threads) do
    wrong_answers = wrong_answers + thread:get("wrong")
  end
  io.write(string.format(
    '\n{"requests": %d, "duration_us": %d, "bytes": %.0f, "p50_us": %.0f, "p99_us": %.0f, ' ..
    '"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d, "wrong_answers": %d}\n',
    summary.requests, summary.duration, summary.bytes,
    latency:percentile(50), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.status, errors.timeout, wrong_answers))
end
