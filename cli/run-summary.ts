/** What swap for one command or one group has done, said at its end. */
import { formatSize } from '../common/units.ts';
import type { Kept, ScopedDevice } from './scoped-device.ts';
import type { GuardReport } from './system/reserve-guard.ts';

/** How long after its end a command's swap may take to be trimmed before we report. */
const TRIM_WAIT_MS = 20_000;
const TRIM_QUIET_MS = 1_000;
const TRIM_POLL_MS = 100;

/** What it did, as `--json` prints it on stderr after the command's own output. */
export interface RunSummary {
  /** Of the command; 0 for a scope. */
  readonly exitCode: number;
  /** The swap device. */
  readonly device: string;
  /** Pages that the kernel swapped out and in meanwhile. */
  readonly pagesOut: number;
  readonly pagesIn: number;
  /** Pages that the kernel gave back at the end. */
  readonly trimmedPages: number;
  /** Bytes of pages still kept then: whole 2 MiB clusters are trimmed, others stay until swap off. */
  readonly storedBytes: number;
  /** The most RAM of the group, before and during the run. */
  readonly peakBytes: number;
  /** What the reserve guard saw. */
  readonly guard: GuardReport;
}

/** The summary as a sentence. */
export function describeRun(summary: RunSummary): string {
  const { exitCode, pagesOut, pagesIn, trimmedPages, storedBytes, guard } = summary;
  return (
    `memcloud: exit code ${exitCode}, ${pagesOut} pages out, ${pagesIn} in, ` +
    `${trimmedPages} trimmed at the end, ${formatSize(storedBytes)} still kept; ` +
    `never less than ${formatSize(guard.lowestFreeBytes)} free on the machine`
  );
}

/** Waits until the kernel has trimmed what was left in swap: until nothing came for a while. */
export async function afterTrim({ kept }: Pick<ScopedDevice, 'kept'>): Promise<Kept> {
  const endMs = performance.now() + TRIM_WAIT_MS;
  let quietSinceMs = performance.now();
  for (let last = -1; ;) {
    const now = await kept();
    const nowMs = performance.now();
    if (now.trimmedPages !== last) quietSinceMs = nowMs;
    if (nowMs - quietSinceMs > TRIM_QUIET_MS || nowMs > endMs) return now;
    last = now.trimmedPages;
    await new Promise((resolve) => setTimeout(resolve, TRIM_POLL_MS));
  }
}
