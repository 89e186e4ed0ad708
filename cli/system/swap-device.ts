/**
 * A block device as swap. `--discard=pages` matters: without it the kernel never says which pages
 * it no longer needs, and remote RAM only grows (docs/architecture.md, "What the kernel sends").
 */
import fs from 'node:fs';
import path from 'node:path';
import { formatSize } from '../../common/units.ts';
import { runTool } from './exec.ts';
import { MemoryReading } from './memory-reading.ts';

/** One line of /proc/swaps. */
export interface SwapLine {
  /** The device. */
  readonly device: string;
  /** Bytes in all. */
  readonly sizeBytes: number;
  /** Bytes in use. */
  readonly usedBytes: number;
  /** Priority; the kernel fills higher ones first. */
  readonly priority: number;
}

/** The active swap areas. */
export function listSwaps(): SwapLine[] {
  const lines = fs.readFileSync('/proc/swaps', 'utf8').trim().split('\n').slice(1);
  return lines.map((line) => {
    const [device = '', , size, used, priority] = line.split(/\s+/);
    return {
      device,
      sizeBytes: Number(size) * 1024,
      usedBytes: Number(used) * 1024,
      priority: Number(priority),
    };
  });
}

/**
 * Ends writeback throttling on a device. The kernel slows background writes while reads are slow, as
 * they are on a busy disk; on remote RAM it then sends one page-out at a time, and whoever frees
 * memory waits for it. Where the kernel has no such throttling there is nothing to end.
 */
function endWriteThrottling(device: string): void {
  try {
    fs.writeFileSync(`/sys/block/${path.basename(device)}/queue/wbt_lat_usec`, '0');
  } catch {
    // CONFIG_BLK_WBT is not set.
  }
}

/** Formats the device and swaps on it. @throws MemcloudError `ERR_NATIVE`, `ERR_UNSUPPORTED` */
export async function swapOn(device: string, priority: number | undefined): Promise<void> {
  endWriteThrottling(device);
  await runTool('mkswap', [device]);
  const priorityArgs = priority === undefined ? [] : ['--priority', String(priority)];
  await runTool('swapon', ['--discard=pages', ...priorityArgs, device]);
}

/**
 * Why what lies on a device cannot come back into RAM now; undefined when it can. `swapoff` without
 * room fails half-way, or takes the machine to where it has to kill.
 */
export function returnProblem(device: string, reserveBytes: number): string | undefined {
  const usedBytes = listSwaps().find((line) => line.device === device)?.usedBytes ?? 0;
  const memory = new MemoryReading();
  memory.read();
  memory.close();
  const roomBytes = Math.max(0, memory.freeBytes - reserveBytes);
  if (usedBytes <= roomBytes) return undefined;
  return `${formatSize(usedBytes)} on ${device} do not fit into the ${formatSize(roomBytes)} of RAM to spare`;
}

/** Moves every page back and ends swapping on the device. @throws MemcloudError `ERR_NATIVE` */
export async function swapOff(device: string): Promise<void> {
  await runTool('swapoff', [device]);
}
