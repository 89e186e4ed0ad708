/**
 * The request queues under a swap device. A device mapper or RAID device stands on others, and each
 * of them cuts requests to its own limit, so that the whole stack counts. Linux
 * Documentation/ABI/stable/sysfs-block.
 */
import type { SystemFiles } from './system-files.ts';

/** How deep a stack of block devices may be; the kernel's own are a few. */
const STACK_DEPTH_MAX = 8;

/** One device of a stack. */
export interface BlockQueue {
  /** Its kernel name, such as `nbd0` or `dm-0`. */
  readonly name: string;
  /** The largest request that it takes, KiB; the administrator may change it. */
  readonly maxSectorsKb: number;
  /** The most that {@link BlockQueue.maxSectorsKb} may be, KiB. */
  readonly maxHwSectorsKb: number;
  /** The largest discard, bytes; 0 when it takes none. */
  readonly discardMaxBytes: number;
}

/**
 * The queues of a device and of all that it stands on, the lowest first.
 *
 * @param device - a path such as `/dev/nbd0` or `/dev/mapper/swap`
 */
export function blockQueues(device: string, files: SystemFiles): BlockQueue[] {
  const found = new Map<string, BlockQueue>();
  const visit = (name: string, depth: number): void => {
    if (depth > STACK_DEPTH_MAX || !files.exists(`/sys/class/block/${name}`)) return;
    for (const slave of files.list(`/sys/class/block/${name}/slaves`)) visit(slave, depth + 1);
    const number = (file: string): number =>
      files.readNumber(`/sys/class/block/${name}/queue/${file}`) ?? 0;
    found.set(name, {
      name,
      maxSectorsKb: number('max_sectors_kb'),
      maxHwSectorsKb: number('max_hw_sectors_kb'),
      discardMaxBytes: number('discard_max_bytes'),
    });
  };
  visit(files.realName(device), 0);
  return [...found.values()];
}

/** Whether a device lies on another machine's memory: one of its stack is a network block device. */
export function isRemote(queues: readonly BlockQueue[]): boolean {
  return queues.some(({ name }) => /^nbd\d+$/.test(name));
}
