/** Checks of control groups, of what keeps lent and serving memory in RAM, and of vm.* values. */
import { isRemote } from '../system/block-queue.ts';
import { hasRemoteSwap, isZram } from './checks-swap.ts';
import type { MachineFacts, VM_VALUES } from './facts.ts';
import { ok, problem, warning, type CheckResult } from './finding.ts';

/** Control groups: what memcloud run is made of. */
export function checkControlGroups({ memory: { cgroups } }: MachineFacts): CheckResult[] {
  const check = 'control groups';
  const { version, memory, swapLimit } = cgroups;
  if (version !== 2) {
    const finding =
      version === 1
        ? 'version 1 at /sys/fs/cgroup: memcloud run cannot limit a command'
        : 'none at /sys/fs/cgroup: memcloud run cannot limit a command';
    const fix =
      version === 1
        ? 'boot with systemd.unified_cgroup_hierarchy=1'
        : 'mount -t cgroup2 none /sys/fs/cgroup';
    return [problem(check, finding, fix)];
  }
  if (!memory) {
    const finding = 'version 2 without the memory controller: memcloud run cannot limit a command';
    return [problem(check, finding, 'boot without cgroup_disable=memory')];
  }
  if (swapLimit === false) {
    const finding =
      'memory.swap.max is missing: neither can memnode be kept out of swap nor a command’s swap be limited';
    return [warning(check, finding, 'boot without swapaccount=0')];
  }
  return [ok(check, 'version 2 with the memory controller')];
}

/** Whether lent pages can reach a disk of this machine. */
export function checkLentMemory(facts: MachineFacts): CheckResult[] {
  const check = 'lent memory';
  const { daemon, kernel, root, swaps } = facts;
  if ('status' in daemon) {
    const { swapExposure, usage } = daemon.status.provider;
    if (usage.offeredBytes === 0) return [ok(check, 'memnode lends nothing')];
    if (swapExposure === 'noswap') return [ok(check, 'on a tmpfs that is never swapped')];
  } else if (noswapTmpfs(kernel.release) && root) {
    return [ok(check, 'tmpfs can be mounted noswap')];
  }
  const disks = swaps.filter(({ device, queues }) => !isZram(device) && !isRemote(queues));
  if (disks.length === 0) return [ok(check, 'no swap disk: lent pages stay in RAM')];
  const finding =
    'lent pages (sealed by their owners) may be written to the swap disk of this machine';
  return [warning(check, finding, 'systemctl set-property memnode.service MemorySwapMax=0')];
}

/** Linux 6.3 has tmpfs `noswap`. */
function noswapTmpfs(release: string): boolean {
  const [major = 0, minor = 0] = release.split('.').map((part) => Number.parseInt(part, 10));
  return major > 6 || (major === 6 && minor >= 3);
}

/** What kernel-scripts/tune-vm.sh would leave as it is; a test holds the two equal. */
export function vmWanted(
  name: (typeof VM_VALUES)[number],
  memoryBytes: number,
): { readonly atLeast: number; readonly atMost: number } {
  switch (name) {
    case 'min_free_kbytes':
      return { atLeast: Math.min(Math.floor(memoryBytes / 1024 / 16), 65_536), atMost: Infinity };
    case 'watermark_scale_factor':
      return { atLeast: 200, atMost: Infinity };
    case 'page-cluster':
      return { atLeast: 3, atMost: 3 };
    case 'swappiness':
      return { atLeast: 100, atMost: 100 };
  }
}

/** The vm.* values, which matter once there is remote swap. */
export function checkVmValues(facts: MachineFacts): CheckResult[] {
  const check = 'vm settings';
  const { memory, scriptsFolder, swaps } = facts;
  const off = Object.entries(memory.vm).flatMap(([name, value]) => {
    const { atLeast, atMost } = vmWanted(name as (typeof VM_VALUES)[number], memory.totalBytes);
    if (value === undefined || (value >= atLeast && value <= atMost)) return [];
    return [`vm.${name} is ${value}, ${atLeast === atMost ? '' : 'at least '}${atLeast} wanted`];
  });
  if (off.length === 0) return [ok(check, 'as tune-vm.sh sets them')];
  if (!hasRemoteSwap(swaps)) {
    return [ok(check, 'the distribution’s; tune-vm.sh helps once swap is on the pool')];
  }
  return [warning(check, off.join('; '), `${scriptsFolder}/tune-vm.sh`)];
}

/** The protections of the running memnode. */
export function checkKit(facts: MachineFacts): CheckResult[] {
  const { kit } = facts;
  if (kit === undefined) return [];
  const check = 'protection of memnode';
  const missing = kit.filter(({ active, optional }) => !active && optional !== true);
  if (missing.length === 0) {
    const active = kit.filter((each) => each.active);
    return [ok(check, active.map(({ part }) => part).join(', '))];
  }
  if (!hasRemoteSwap(facts.swaps)) {
    const parts = missing.map(({ part }) => part).join(', ');
    return [ok(check, `nothing swaps through this memnode; for swap it would lack: ${parts}`)];
  }
  return missing.map(({ part, detail, risk }) =>
    warning(check, `${part} is missing (${detail}): ${risk}`, 'memcloud service install'),
  );
}
