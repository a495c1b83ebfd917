// Latency as `elite benchmark` measures it, with a browser's coarse clock.

const STEPS = 50;  // a timed stretch takes this many steps of the clock: 2 % of error

/** The smallest step of performance.now(), in milliseconds: 0.1 or 1 where it is coarsened. */
export function clockStep() {
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
 * Times `run`: each turn is one untimed call and a stretch of timed ones, as many as the clock
 * needs to tell its length.
 * @param {function(): Promise} run an inference.
 * @param {{runs: number, warmup: number}} options timed turns, and untimed calls before them.
 * @param {function(number)} progress is called with the turns done.
 * @return {Promise<{times: number[], calls: number, step: number}>} milliseconds a call, one
 *   figure a turn; the calls in a stretch; the clock's step.
 */
export async function measure(run, options, progress) {
  const step = clockStep();
  for (let i = 0; i < options.warmup; i++) await run();
  let calls = 1;
  while ((await shortest(run, calls)) < STEPS * step) calls *= 2;
  const times = [];
  for (let i = 0; i < options.runs; i++) {
    await run();
    times.push((await stretch(run, calls)) / calls);
    progress(i + 1);
    // Lets the page draw; inference itself never gives way to it.
    await new Promise((resolve) => setTimeout(resolve));
  }
  return {times, calls, step};
}

/** Of several stretches: one alone may be long because something else had the processor. */
async function shortest(run, calls) {
  let least = Infinity;
  for (let i = 0; i < 5; i++) least = Math.min(least, await stretch(run, calls));
  return least;
}

async function stretch(run, calls) {
  const start = performance.now();
  for (let i = 0; i < calls; i++) await run();
  return performance.now() - start;
}

/** The p-th percentile, interpolated as NumPy does. */
export function percentile(values, p) {
  const sorted = Float64Array.from(values).sort();
  const place = ((sorted.length - 1) * p) / 100;
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (place - below);
}

/** What the browser tells of the device; names of phones only in Chrome on Android. */
export async function host(runtime) {
  const agent = navigator.userAgentData;
  const hints = ["model", "platformVersion", "architecture", "bitness", "fullVersionList"];
  const told = agent ? await agent.getHighEntropyValues(hints).catch(() => ({})) : {};
  const list = told.fullVersionList ?? [];
  const named = list.filter(({brand}) => !/not.?a.?brand/i.test(brand)).pop();
  const words = (...parts) => parts.filter(Boolean).join(" ");
  return {
    cpu: told.model || words(told.architecture, told.bitness && `${told.bitness} bit`) || "unknown",
    cores: navigator.hardwareConcurrency ?? null,
    system: words(told.platform, told.platformVersion) || navigator.platform,
    python: "none",
    runtime,
    peak_rss_mb: null,
    browser: named ? `${named.brand} ${named.version}` : navigator.userAgent,
    device_memory_gb: navigator.deviceMemory ?? null,
    user_agent: navigator.userAgent,
  };
}

/** The result in the shape of `elite benchmark --json`. */
export function report(network, host, options, {times, calls, step}) {
  const median = percentile(times, 50);
  return {
    host,
    options: {...options, threads: 1, seed: 0, inferences_per_run: calls, clock_step_ms: step},
    rows: [{
      model: network.file,
      file_bytes: network.bytes,
      input: `${[1, network.side, network.side, 3].join("x")} ${network.input.type}`,
      threads: 1,
      runs: options.runs,
      median_ms: median,
      p90_ms: percentile(times, 90),
      min_ms: Math.min(...times),
      mean_ms: times.reduce((sum, time) => sum + time) / times.length,
      ratio: 1,
      error: null,
    }],
  };
}
