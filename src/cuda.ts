// What can be known about CUDA without touching it: the driver's files and the toolkit's compiler. Nothing here maps
// a library or starts a process. A library found on disk is never taken for a usable GPU: the driver must be loaded
// too (containers see the host's /proc without its libraries, images carry libcuda without a driver).

import { existsSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';

export interface CudaDriver {
  /** Version of the loaded kernel driver, e.g. 580.65.06; null when none is loaded or it does not say. */
  readonly version: string | null;
  /** Path of libcuda.so.1, null when it is in none of the usual folders. */
  readonly libcuda: string | null;
  /** Both halves are there. */
  readonly present: boolean;
}

const LIBCUDA_FOLDERS = [
  'usr/lib/x86_64-linux-gnu',
  'usr/lib64',
  'usr/lib',
  'usr/local/nvidia/lib64',
  'usr/local/nvidia/lib',
  'usr/lib/wsl/lib',
];

/**
 * Looks for the NVIDIA driver.
 *
 * @param fsRoot - where the file system starts; '/' except in tests
 * @param libraryPath - the loader's search path (LD_LIBRARY_PATH), looked at first
 */
export function cudaDriver(fsRoot = '/', libraryPath = process.env.LD_LIBRARY_PATH ?? ''): CudaDriver {
  const version = driverVersion(join(fsRoot, 'proc/driver/nvidia/version'));
  const folders = [...libraryPath.split(delimiter).filter(Boolean), ...LIBCUDA_FOLDERS.map((f) => join(fsRoot, f))];
  const libcuda = folders.map((f) => join(f, 'libcuda.so.1')).find((f) => existsSync(f)) ?? null;
  // dxg: the Windows host's driver. nvidiactl: sandboxes that hand the device through have it without the /proc entry.
  const loaded = version !== null || ['dev/dxg', 'dev/nvidiactl'].some((device) => existsSync(join(fsRoot, device)));
  return { version, libcuda, present: loaded && libcuda !== null };
}

function driverVersion(file: string): string | null {
  try {
    return /Module\s+(?:for \S+\s+)?(\d+(?:\.\d+)+)/.exec(readFileSync(file, 'utf8'))?.[1] ?? null;
  } catch {
    return null;
  }
}

/** Oldest driver series of each CUDA major. Source: CUDA release notes, minor version compatibility. */
const OLDEST_DRIVER: Readonly<Record<string, number>> = { '12': 525, '13': 580 };

/**
 * Why CUDA cannot be used, judged from files alone; null when nothing speaks against it.
 *
 * @param cuda - CUDA version of the chosen LibTorch (e.g. '13.0'), null for a CPU build or none
 */
export function cudaObstacle(driver: CudaDriver, cuda: string | null): string | null {
  if (driver.version === null && driver.libcuda === null) return 'no NVIDIA driver on this machine';
  if (driver.libcuda === null)
    return `the NVIDIA driver ${driver.version} is loaded but libcuda.so.1 is not installed here`;
  if (!driver.present) return 'libcuda.so.1 is installed but no NVIDIA driver is loaded';
  if (cuda === null) return 'the chosen LibTorch is a CPU build';
  const oldest = OLDEST_DRIVER[cuda.split('.')[0] ?? ''];
  if (driver.version !== null && oldest !== undefined && Number.parseInt(driver.version, 10) < oldest)
    return `the NVIDIA driver ${driver.version} is too old for CUDA ${cuda}, which needs ${oldest} or newer`;
  return null;
}
