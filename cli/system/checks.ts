/**
 * What `memcloud doctor` looks at on this machine. Each check reads and never changes anything, and
 * names the one command that mends what it finds.
 */
import fs from 'node:fs';
import os from 'node:os';
import { hasMemoryController } from '../../common/control-group.ts';
import { formatSize } from '../../common/units.ts';
import { hasTool } from './exec.ts';
import { listSwaps } from './swap-device.ts';

/** How a check came out. */
export type CheckLevel = 'ok' | 'warning' | 'problem';

/** One finding. */
export interface CheckResult {
  /** What was looked at. */
  readonly check: string;
  /** How it came out. */
  readonly level: CheckLevel;
  /** What was found and what it means. */
  readonly finding: string;
  /** The command that mends it; empty when there is nothing to mend. */
  readonly fix: string;
}

const CAP_SYS_RESOURCE = 24;
const CAP_SYS_ADMIN = 21;
const MEMLOCK_WANTED_BYTES = 128 * 1024 * 1024;

function ok(check: string, finding: string): CheckResult {
  return { check, level: 'ok', finding, fix: '' };
}

function read(path: string): string {
  try {
    return fs.readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** Whether the kernel has a module, built in, loaded or to be loaded. */
export function kernelModule(name: string): 'ready' | 'loadable' | 'absent' {
  const release = os.release();
  const builtin = read(`/lib/modules/${release}/modules.builtin`);
  if (fs.existsSync(`/sys/module/${name.replaceAll('-', '_')}`)) return 'ready';
  if (builtin.includes(`/${name}.ko`)) return 'ready';
  const dependencies = read(`/lib/modules/${release}/modules.dep`);
  return dependencies.includes(`/${name}.ko`) ? 'loadable' : 'absent';
}

function checkNode(): CheckResult {
  const check = 'node';
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 19)) {
    const finding = `Node ${process.versions.node} is too old: 20.19 or later is needed`;
    return { check, level: 'problem', finding, fix: 'install a newer Node.js' };
  }
  return ok(check, `Node ${process.versions.node}`);
}

function checkNbd(): CheckResult {
  const check = 'nbd module';
  const state = kernelModule('nbd');
  if (state === 'ready') return ok(check, 'the kernel can attach network block devices');
  if (state === 'loadable') {
    const finding = 'nbd is not loaded: nbd attach, swap on and run need it';
    return { check, level: 'warning', finding, fix: 'modprobe nbd nbds_max=16' };
  }
  return {
    check,
    level: 'problem',
    finding:
      'this kernel has no nbd module: no swap and no /dev/nbdN here; nbd serve and volumes work',
    fix: 'boot a kernel with CONFIG_BLK_DEV_NBD, such as linux-image-cloud-amd64',
  };
}

function checkMemoryGroups(): CheckResult {
  const check = 'control groups';
  if (hasMemoryController()) return ok(check, 'version 2 with the memory controller');
  return {
    check,
    level: 'problem',
    finding: 'no memory controller in /sys/fs/cgroup: memcloud run cannot limit a command',
    fix: 'mount -t cgroup2 none /sys/fs/cgroup',
  };
}

function checkTools(): CheckResult {
  const check = 'tools';
  const missing = ['mkswap', 'swapon', 'swapoff'].filter((tool) => !hasTool(tool));
  if (missing.length === 0) return ok(check, 'mkswap, swapon and swapoff are there');
  const finding = `${missing.join(', ')} not found: swap on and run need them`;
  return { check, level: 'problem', finding, fix: 'apt-get install util-linux' };
}

function checkCapabilities(): CheckResult {
  const check = 'capabilities';
  const bits = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(read('/proc/self/status'))?.[1] ?? '0'}`);
  const missing = [
    ...((bits >> BigInt(CAP_SYS_ADMIN)) & 1n ? [] : ['CAP_SYS_ADMIN (attach, swap on)']),
    ...((bits >> BigInt(CAP_SYS_RESOURCE)) & 1n ? [] : ['CAP_SYS_RESOURCE (PR_SET_IO_FLUSHER)']),
  ];
  if (missing.length === 0) return ok(check, 'everything that swap needs');
  const finding = `missing: ${missing.join(', ')}`;
  return { check, level: 'warning', finding, fix: 'run as root with all capabilities' };
}

function checkMemlock(): CheckResult {
  const check = 'locked memory';
  const line = /^Max locked memory\s+(\S+)/m.exec(read('/proc/self/limits'))?.[1] ?? '0';
  const limit = line === 'unlimited' ? Infinity : Number(line);
  if (limit >= MEMLOCK_WANTED_BYTES || process.geteuid?.() === 0) {
    return ok(check, 'the ring and keys can be locked in RAM');
  }
  return {
    check,
    level: 'warning',
    finding: `at most ${formatSize(limit)} can be locked: keys and pages on their way may be swapped`,
    fix: 'ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit',
  };
}

function checkProviderMemory(): CheckResult {
  const check = 'lent memory';
  const disks = listSwaps().filter(({ device }) => !/\/(zram|nbd)\d+$/.test(device));
  const [major = 0, minor = 0] = os.release().split('.').map(Number);
  const noswap = major > 6 || (major === 6 && minor >= 3);
  if (disks.length === 0) return ok(check, 'no swap disk: lent pages stay in RAM');
  if (noswap && process.geteuid?.() === 0) return ok(check, 'tmpfs can be mounted noswap');
  return {
    check,
    level: 'warning',
    finding: 'lent pages (sealed by their owners) may be written to the swap disk of this machine',
    fix: 'run memnode in a control group with memory.swap.max=0',
  };
}

function checkZram(): CheckResult {
  const check = 'zram';
  const zram = listSwaps().filter(({ device }) => /\/zram\d+$/.test(device));
  const remote = listSwaps().filter(({ device }) => /\/nbd\d+$/.test(device));
  const inverted = zram.some((a) => remote.some((b) => a.priority > b.priority));
  if (!inverted) return ok(check, 'not in front of remote swap');
  return {
    check,
    level: 'warning',
    finding: 'zram fills first and keeps cold pages, so that hot ones end up remote',
    fix: 'use zswap in front of remote swap instead of zram',
  };
}

/** Runs every check of this machine. */
export function checkMachine(): CheckResult[] {
  return [
    checkNode(),
    checkNbd(),
    checkMemoryGroups(),
    checkTools(),
    checkCapabilities(),
    checkMemlock(),
    checkProviderMemory(),
    checkZram(),
  ];
}
