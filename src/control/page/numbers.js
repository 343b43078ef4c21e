// Numbers and times, as they are shown.

/** Rates are of so many milliseconds; a look that is older than GAP starts anew. */
const WINDOW = 10_000;
const GAP = 15_000;

const NONE = '–';
const WHOLE = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const TENTHS = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });

const count = (n) => (n === null || n === undefined ? NONE : WHOLE.format(n));
const rate = (n) => (n === undefined ? NONE : n > 0 && n < 10 ? TENTHS.format(Math.max(n, 0.1)) : WHOLE.format(n));
const plural = (n, one, many = `${one}s`) => `${WHOLE.format(n)} ${n === 1 ? one : many}`;

/** Milliseconds, as exact as a histogram can tell them. */
function latency(ms) {
  if (ms === undefined) return NONE;
  if (ms === Infinity) return '> 60 s';
  if (ms < 10) return `${TENTHS.format(ms)} ms`;
  return ms < 1000 ? `${WHOLE.format(ms)} ms` : `${TENTHS.format(ms / 1000)} s`;
}

/** How long something lasts, in its largest unit. */
function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 2 * 86_400) return `${Math.floor(whole / 3600)} h`;
  return `${Math.floor(whole / 86_400)} d`;
}

/** A moment, by the reader's clock; with its day when that is another. */
function clock(seconds, now) {
  const [at, today] = [new Date(seconds * 1000), new Date(now * 1000)];
  const time = at.toTimeString().slice(0, 8);
  if (at.toDateString() === today.toDateString()) return time;
  return `${at.toLocaleDateString('en-GB', { day: 'numeric', month: 'short' })} ${time.slice(0, 5)}`;
}

/** `03:12:45 (4 min)`. */
const since = (seconds, now) => (seconds ? `${clock(seconds, now)} (${span(now - seconds)})` : '');

/**
 * The q-th of what lies in these buckets, in milliseconds; of the last one, which has
 * no end, Infinity. `lockgate top` says the same.
 */
function quantile(buckets, bounds, q) {
  const all = buckets.reduce((sum, n) => sum + n, 0);
  if (all === 0) return undefined;
  let [left, lower] = [q * all, 0];
  for (const [at, n] of buckets.entries()) {
    const upper = bounds[at];
    if (n > 0 && left <= n) return upper === undefined ? Infinity : (lower + (upper - lower) * (left / n)) * 1000;
    left -= n;
    lower = upper;
  }
  return undefined;
}

/** What was counted of one thing at the looks of the last seconds. */
class Meter {
  looks = [];

  /** `counted`: by its `by_class`, and its `errors`; `took`: its histogram. */
  note(now, counted, took) {
    const all = Object.values(counted.by_class ?? {}).reduce((sum, n) => sum + n, 0);
    const errors = counted.errors ?? 0;
    const look = { now, all, errors, buckets: took?.buckets ?? [], bounds: took?.bounds_seconds ?? [] };
    const last = this.looks.at(-1);
    // Counters that shrank belong to another process, or to another backend.
    if (last && (now - last.now > GAP || all < last.all || look.buckets.some((n, at) => n < last.buckets[at]))) {
      this.looks = [];
    }
    this.looks.push(look);
    while (this.looks.length > 2 && now - this.looks[1].now >= WINDOW) this.looks.shift();
  }

  /** Everything that can be said of the time between the first look and the last. */
  read() {
    const [first, last] = [this.looks[0], this.looks.at(-1)];
    const seconds = last ? (last.now - first.now) / 1000 : 0;
    if (!seconds) return {};
    const buckets = last.buckets.map((n, at) => n - first.buckets[at]);
    return {
      rate: (last.all - first.all) / seconds,
      errors: (last.errors - first.errors) / seconds,
      p50: quantile(buckets, last.bounds, 0.5),
      p99: quantile(buckets, last.bounds, 0.99),
      buckets,
      bounds: last.bounds,
    };
  }
}

/** Several readings as one. */
function together(readings) {
  const known = readings.filter((one) => one.rate !== undefined);
  if (known.length === 0) return {};
  const sum = (key) => known.reduce((all, one) => all + one[key], 0);
  const { bounds } = known[0];
  const buckets = [...bounds, 0].map((_, at) => known.reduce((all, one) => all + (one.buckets[at] ?? 0), 0));
  return {
    rate: sum('rate'),
    errors: sum('errors'),
    p50: quantile(buckets, bounds, 0.5),
    p99: quantile(buckets, bounds, 0.99),
    buckets,
    bounds,
  };
}
