// Measures latency like `elite benchmark`, but with the coarse clock of a browser: it times several
// inferences together, so many that the clock's resolution matters little.

const CLOCK_STEPS = 50;  // a timed batch takes at least 50 clock steps: an error of at most 2 %

/** Returns the resolution of performance.now() in ms; many browsers limit it to 0.1 or 1. */
function clockStep() {
  let smallest = Infinity;
  for (let i = 0; i < 5; i++) {
    const start = performance.now();
    let now;
    do now = performance.now(); while (now === start);
    smallest = Math.min(smallest, now - start);
  }
  return smallest;
}

/**
 * Measures the latency of `run`. Each turn is one untimed call followed by a batch of calls that
 * are timed together.
 * @param {function(): Promise} run runs one inference.
 * @param {{runs: number, warmup: number}} options turns, and untimed calls before the first one.
 * @param {function(number)} progress is called with the number of turns that are done.
 * @return {Promise<{times: number[], calls: number, step: number}>} mean milliseconds per call for
 *   each turn; the number of calls in a batch; the clock's resolution in milliseconds.
 */
export async function measureLatency(run, options, progress) {
  const step = clockStep();
  for (let i = 0; i < options.warmup; i++) await run();
  let calls = 1;
  while ((await shortestBatch(run, calls)) < CLOCK_STEPS * step) calls *= 2;
  const times = [];
  for (let i = 0; i < options.runs; i++) {
    await run();
    times.push((await timeBatch(run, calls)) / calls);
    progress(i + 1);
    // Let the page redraw its progress bar: inference itself does not yield to it.
    await new Promise((resolve) => setTimeout(resolve));
  }
  return {times, calls, step};
}

/** Milliseconds of the shortest of five batches: other programs may have delayed a single one. */
async function shortestBatch(run, calls) {
  let shortest = Infinity;
  for (let i = 0; i < 5; i++) shortest = Math.min(shortest, await timeBatch(run, calls));
  return shortest;
}

/** Milliseconds that `calls` calls take together. */
async function timeBatch(run, calls) {
  const start = performance.now();
  for (let i = 0; i < calls; i++) await run();
  return performance.now() - start;
}

/** Returns the p-th percentile (0..100), with linear interpolation like NumPy's. */
export function percentile(values, p) {
  const sorted = Float64Array.from(values).sort();
  const place = ((sorted.length - 1) * p) / 100;
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (place - below);
}

/**
 * Describes the device, as far as the browser reveals it, in the fields of `elite benchmark`'s
 * "host". Only Chrome on Android reveals the model of a phone.
 */
export async function describeHost(runtime) {
  const agent = navigator.userAgentData;
  const hints = ["model", "platformVersion", "architecture", "bitness", "fullVersionList"];
  const device = agent ? await agent.getHighEntropyValues(hints).catch(() => ({})) : {};
  const brands = device.fullVersionList ?? [];
  // Browsers add an invented brand such as "Not A Brand", and put their own name last.
  const browser = brands.filter(({brand}) => !/not.?a.?brand/i.test(brand)).pop();
  const join = (...parts) => parts.filter(Boolean).join(" ");
  const processor = join(device.architecture, device.bitness && `${device.bitness} bit`);
  return {
    cpu: device.model || processor || "unknown",
    cores: navigator.hardwareConcurrency ?? null,
    system: join(device.platform, device.platformVersion) || navigator.platform,
    python: "none",
    runtime,
    peak_rss_mb: null,
    clusters: null,
    libc: null,
    browser: browser ? `${browser.brand} ${browser.version}` : navigator.userAgent,
    device_memory_gb: navigator.deviceMemory ?? null,
    user_agent: navigator.userAgent,
  };
}

/** Returns the result in the format of `elite benchmark --json`. */
export function report(network, host, options, {times, calls, step}) {
  const median = percentile(times, 50);
  return {
    host,
    options: {
      ...options, threads: 1, seed: 0, sustained: 0, inferences_per_run: calls, clock_step_ms: step,
    },
    rows: [{
      model: network.file,
      file_bytes: network.bytes,
      input: `${[1, network.height, network.width, network.channels].join("x")} ${network.input.type}`,
      threads: 1,
      runs: options.runs,
      median_ms: median,
      p90_ms: percentile(times, 90),
      min_ms: Math.min(...times),
      mean_ms: times.reduce((sum, time) => sum + time) / times.length,
      ratio: 1,
      error: null,
      p5_ms: percentile(times, 5),
      p95_ms: percentile(times, 95),
      initialisation_ms: null,
      first_ms: null,
      delegate: null,
      delegated: null,
      energy_mj: null,
      rss_mb: null,
      sustained_ms: null,
      instructions: null,
    }],
  };
}
