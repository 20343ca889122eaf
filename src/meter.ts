// Seconds and peak resident memory of a piece of work, sampled, for run.json.

const SAMPLE_MS = 200;

export interface Measured {
  readonly seconds: number;
  readonly peakBytes: number; // largest resident set seen, of the whole process
}

/** Starts sampling; the returned function stops it and tells what was measured so far. */
export function startMeter(): () => Measured {
  const began = performance.now();
  let peakBytes = process.memoryUsage.rss();
  const timer = setInterval(() => {
    peakBytes = Math.max(peakBytes, process.memoryUsage.rss());
  }, SAMPLE_MS);
  timer.unref();
  return () => {
    clearInterval(timer);
    return { seconds: (performance.now() - began) / 1000, peakBytes: Math.max(peakBytes, process.memoryUsage.rss()) };
  };
}
