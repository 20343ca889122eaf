// What this package runs on: Linux x86-64 with glibc 2.28 or newer (the floor of LibTorch's own binaries).

/** Version of the C library in this process, e.g. '2.36'; null where it is not glibc (musl, other systems). */
export function glibcVersion(): string | null {
  const report = process.report;
  if (report === undefined) return null;
  // Without this the report looks up the names of all network interfaces, which can take seconds.
  const settings = report as { excludeNetwork?: boolean };
  const before = settings.excludeNetwork;
  settings.excludeNetwork = true;
  const { header } = report.getReport() as unknown as { header?: { glibcVersionRuntime?: string } };
  if (before !== undefined) settings.excludeNetwork = before;
  return header?.glibcVersionRuntime ?? null;
}

/** Why this platform cannot run LibTorch, or null where it can. */
export function platformObstacle(
  platform: string = process.platform,
  arch: string = process.arch,
  glibc: string | null = platform === 'linux' ? glibcVersion() : null,
): string | null {
  if (platform !== 'linux' || arch !== 'x64')
    return `expected Linux on x64 for the platform but received ${platform} on ${arch}`;
  const [major = 0, minor = 0] = (glibc ?? '').split('.').map(Number);
  if (major < 2 || (major === 2 && minor < 28))
    return `expected glibc 2.28 or newer for the C library but received ${glibc ?? 'none (musl?)'}`;
  return null;
}
