/**
 * What `swap on` sets on the devices under remote swap, and what it advises of the machine's own
 * settings. The values are those that kernel-scripts/README.md has figures for.
 *
 * Requests form at the network block devices; what stands on them (dm-crypt, RAID) hands pages on
 * one by one. Larger requests than the kernel's default gained nothing that could be told from noise,
 * and each of the 128 requests that a device may have on their way pins its pages: with 512 KiB,
 * 64 MiB are pinned at once, and a program in a smaller control group is killed though the pool has room.
 */
import { blockQueues, type BlockQueue } from './block-queue.ts';
import type { SystemFiles } from './system-files.ts';

/** Largest request wanted, KiB: what Linux drivers/block/nbd.c sets. */
const MAX_SECTORS_WANTED_KB = 128;

/** Pages that one page-in reads, as a power of two. */
const PAGE_CLUSTER_WANTED = 3;

/** One value to set. */
export interface QueueSetting {
  /** The file in /sys. */
  readonly file: string;
  /** What it holds now. */
  readonly before: number;
  /** What it should hold. */
  readonly wanted: number;
}

/** What to set on the queues of one stack, the lowest first; pure. */
export function queueSettings(queues: readonly BlockQueue[]): QueueSetting[] {
  const settings: QueueSetting[] = [];
  for (const { name, maxSectorsKb, maxHwSectorsKb } of queues) {
    const wanted = Math.min(MAX_SECTORS_WANTED_KB, maxHwSectorsKb);
    if (!/^nbd\d+$/.test(name) || maxSectorsKb === wanted) continue;
    const file = `/sys/class/block/${name}/queue/max_sectors_kb`;
    settings.push({ file, before: maxSectorsKb, wanted });
  }
  return settings;
}

/** A sentence about `vm.page-cluster`, empty when it is as it should be; pure. */
export function pageClusterAdvice(pageCluster: number | undefined): string {
  if (pageCluster === undefined || pageCluster === PAGE_CLUSTER_WANTED) return '';
  const pages = 2 ** pageCluster;
  return (
    `vm.page-cluster is ${pageCluster}: each page-in reads ${pages === 1 ? 'one page' : `${pages} pages`}; ` +
    `${2 ** PAGE_CLUSTER_WANTED} share one round trip with: sysctl vm.page-cluster=${PAGE_CLUSTER_WANTED}`
  );
}

/**
 * Ends writeback throttling under a device. The kernel slows background writes while reads are slow, as
 * they are on a busy disk; on remote RAM it then sends one page-out at a time, and whoever frees
 * memory waits for it. A kernel without CONFIG_BLK_WBT has nothing to end.
 */
function endWriteThrottling(queues: readonly BlockQueue[], files: SystemFiles): void {
  for (const { name } of queues) {
    const file = `/sys/class/block/${name}/queue/wbt_lat_usec`;
    if (/^nbd\d+$/.test(name) && (files.readNumber(file) ?? 0) > 0) files.write(file, '0');
  }
}

/**
 * Sets what the queues under a device need.
 *
 * @param device - a path such as `/dev/nbd0` or `/dev/mapper/swap`
 * @returns what was set, and advice about the machine, empty when there is none
 * @throws MemcloudError `ERR_NATIVE` when the kernel refuses a value
 */
export function tuneSwapDevice(
  device: string,
  files: SystemFiles,
): { set: QueueSetting[]; advice: string } {
  const queues = blockQueues(device, files);
  endWriteThrottling(queues, files);
  const set = queueSettings(queues);
  for (const { file, wanted } of set) files.write(file, String(wanted));
  return { set, advice: pageClusterAdvice(files.readNumber('/proc/sys/vm/page-cluster')) };
}
