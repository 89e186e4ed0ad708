/** Collects the facts of memory: control groups, vm.* values, zswap, swap areas and their queues. */
import { blockQueues } from '../system/block-queue.ts';
import { parseSwaps } from '../system/swap-device.ts';
import type { SystemFiles } from '../system/system-files.ts';
import { record } from './collect-kernel.ts';
import {
  VM_VALUES,
  type CgroupFacts,
  type MemoryFacts,
  type SwapFacts,
  type ZswapFacts,
} from './facts.ts';

const CGROUP_ROOT = '/sys/fs/cgroup';

/**
 * memory.swap.max is in every group but the root, so it is looked for in the own group and in those
 * right below the root.
 */
function swapLimit(files: SystemFiles): boolean | undefined {
  const own = /^0::(\/.+)$/m.exec(files.read('/proc/self/cgroup') ?? '')?.[1];
  const groups = [...(own === undefined ? [] : [own.slice(1)]), ...files.list(CGROUP_ROOT)];
  const limited = groups.filter((name) => files.exists(`${CGROUP_ROOT}/${name}/memory.max`));
  if (limited.length === 0) return undefined;
  return limited.some((name) => files.exists(`${CGROUP_ROOT}/${name}/memory.swap.max`));
}

function collectCgroups(files: SystemFiles): CgroupFacts {
  const controllers = files.read(`${CGROUP_ROOT}/cgroup.controllers`);
  if (controllers === undefined) {
    const version = files.list(CGROUP_ROOT).length > 0 ? 1 : 0;
    return { version, memory: false, swapLimit: undefined };
  }
  const memory = controllers.split(/\s+/).includes('memory');
  return { version: 2, memory, swapLimit: swapLimit(files) };
}

function collectZswap(files: SystemFiles): ZswapFacts | undefined {
  const folder = '/sys/module/zswap/parameters';
  const enabled = files.read(`${folder}/enabled`)?.trim();
  if (enabled === undefined) return undefined;
  const maxPoolPercent = files.readNumber(`${folder}/max_pool_percent`) ?? 0;
  return { enabled: enabled === 'Y', maxPoolPercent };
}

/** Memory and its management. */
export function collectMemory(files: SystemFiles): MemoryFacts {
  const total = /^MemTotal: +(\d+) kB$/m.exec(files.read('/proc/meminfo') ?? '')?.[1];
  return {
    totalBytes: Number(total ?? 0) * 1024,
    cgroups: collectCgroups(files),
    vm: record(VM_VALUES, (name) => files.readNumber(`/proc/sys/vm/${name}`)),
    zswap: collectZswap(files),
  };
}

/** The swap areas. */
export function collectSwaps(files: SystemFiles): SwapFacts[] {
  return parseSwaps(files.read('/proc/swaps') ?? '').map((line) => ({
    ...line,
    queues: line.device.startsWith('/dev/') ? blockQueues(line.device, files) : [],
  }));
}
