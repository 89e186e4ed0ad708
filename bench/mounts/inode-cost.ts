/**
 * What files cost beyond their bytes: memory of an inode, as the mount counts it and as its process grows by
 * it; and whether a million files made and removed leave anything behind.
 */
import { processMemory } from '../proc.ts';
import type { Stage } from '../stage.ts';
import { slope } from '../statistics.ts';
import { runSmallFiles, type FileRun } from './file-workloads.ts';
import { startLocal, type OurMount } from './ours.ts';

const STEP_COUNT = 5;
const WARM_UP_COUNT = 20_000;
const CHURN_STEP_COUNT = 10;
/** Bytes of the name `file-NNNNNN`, which the bound does not count. */
const NAME_SIZE_BYTES = 11;
const TIMEOUT_MS = 600_000;

/** See the top of the file. */
export interface InodeCost {
  /** Bytes of an empty file's inode and entry as the mount counts them, its name not counted. */
  readonly countedBytes: number;
  /** Bytes by which the process grows for one. */
  readonly measuredBytes: number;
  /** Files made and removed. */
  readonly cycles: number;
  /** Bytes by which the process grows for each of them. */
  readonly growthPerCycleBytes: number;
  /** Bytes of the process after the first tenth of the cycles, and after the last. */
  readonly firstBytes: number;
  readonly lastBytes: number;
  /** Made and removed in a second. */
  readonly cyclesPerSecond: number;
}

function residentBytes(mount: OurMount): number {
  return processMemory(mount.pids[0] ?? 0).anonymousBytes;
}

/** Measures on a mount of its own. */
export async function measureInodeCost(
  stage: Stage,
  inodes: number,
  cycles: number,
  note: (text: string) => void,
): Promise<InodeCost> {
  const mount = await startLocal(stage, 'default');
  const run: FileRun = { stage, directory: mount.directory, seconds: 0, seed: 1 };
  await runSmallFiles(run, WARM_UP_COUNT, TIMEOUT_MS, ['churn']);
  const readings: { x: number; y: number; counted: number }[] = [];
  for (let step = 0; step <= STEP_COUNT; step += 1) {
    if (step > 0) await runSmallFiles(run, inodes / STEP_COUNT, TIMEOUT_MS, ['empty']);
    const { metadataBytes, inodeCount } = await mount.status();
    readings.push({ x: inodeCount, y: residentBytes(mount), counted: metadataBytes });
    note(`inodes: ${inodeCount}, ${metadataBytes} bytes of metadata`);
  }
  const churn: { x: number; y: number }[] = [];
  let seconds = 0;
  for (let step = 1; step <= CHURN_STEP_COUNT; step += 1) {
    const [time = NaN] = await runSmallFiles(run, cycles / CHURN_STEP_COUNT, TIMEOUT_MS, ['churn']);
    seconds += time;
    churn.push({ x: (cycles / CHURN_STEP_COUNT) * step, y: residentBytes(mount) });
    note(`churn: ${(cycles / CHURN_STEP_COUNT) * step} files made and removed`);
  }
  await mount.stop();
  return {
    countedBytes: slope(readings.map(({ x, counted }) => ({ x, y: counted }))) - NAME_SIZE_BYTES,
    measuredBytes: slope(readings) - NAME_SIZE_BYTES,
    cycles,
    growthPerCycleBytes: slope(churn),
    firstBytes: churn[0]?.y ?? NaN,
    lastBytes: churn.at(-1)?.y ?? NaN,
    cyclesPerSecond: cycles / seconds,
  };
}
