import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import * as memory from '../../../cli/doctor/checks-memory.ts';
import { VM_VALUES, type MachineFacts, type MemoryFacts } from '../../../cli/doctor/facts.ts';
import {
  daemonFacts,
  diskSwap,
  faults,
  healthyFacts,
  remoteSwap,
} from '../../helpers/machine-facts.ts';

const HEALTHY = healthyFacts();

function withMemory(change: Partial<MemoryFacts>): MachineFacts {
  return { ...HEALTHY, memory: { ...HEALTHY.memory, ...change } };
}

t.test('control groups: version, controller, swap limit', async (t) => {
  const cases: [MemoryFacts['cgroups'], string, RegExp][] = [
    [{ version: 2, memory: true, swapLimit: true }, 'ok', /version 2/],
    [{ version: 2, memory: true, swapLimit: undefined }, 'ok', /version 2/],
    [{ version: 2, memory: true, swapLimit: false }, 'warning', /memory\.swap\.max is missing/],
    [
      { version: 2, memory: false, swapLimit: undefined },
      'problem',
      /without the memory controller/,
    ],
    [{ version: 1, memory: false, swapLimit: undefined }, 'problem', /version 1/],
    [{ version: 0, memory: false, swapLimit: undefined }, 'problem', /none at/],
  ];
  for (const [cgroups, level, finding] of cases) {
    t.match(memory.checkControlGroups(withMemory({ cgroups })), [{ level, finding }]);
  }
});

t.test('lent memory: what memnode says, else what the kernel could do', async (t) => {
  const provider = daemonFacts().status.provider;
  const swappable = daemonFacts({ provider: { ...provider, swapExposure: 'swappable' } });
  const idle = daemonFacts({
    provider: {
      ...provider,
      swapExposure: 'swappable',
      usage: { ...provider.usage, offeredBytes: 0 },
    },
  });
  const absent = { reason: 'ENOENT' };
  const old = { ...HEALTHY.kernel, release: '6.2.16' };
  const zram = diskSwap({ device: '/dev/zram0' });
  const file = diskSwap({ device: '/swapfile', queues: [] });
  const cases: [string, Partial<MachineFacts>, string][] = [
    ['noswap', { swaps: [diskSwap()] }, 'ok'],
    ['swappable with a disk', { daemon: swappable, swaps: [diskSwap()] }, 'warning'],
    ['swappable with a file', { daemon: swappable, swaps: [file] }, 'warning'],
    ['swappable, but no disk', { daemon: swappable, swaps: [remoteSwap(), zram] }, 'ok'],
    ['nothing lent', { daemon: idle, swaps: [diskSwap()] }, 'ok'],
    ['no daemon, new kernel, root', { daemon: absent, swaps: [diskSwap()] }, 'ok'],
    ['no daemon, not root', { daemon: absent, swaps: [diskSwap()], root: false }, 'warning'],
    ['no daemon, old kernel', { daemon: absent, swaps: [diskSwap()], kernel: old }, 'warning'],
  ];
  for (const [fact, change, level] of cases) {
    t.match(memory.checkLentMemory({ ...HEALTHY, ...change }), [{ level }], fact);
  }
});

t.test('vm values: warned of once there is remote swap, each that is off by name', async (t) => {
  const vm = { ...HEALTHY.memory.vm, 'page-cluster': 0, swappiness: 60 };
  const facts = withMemory({ vm });
  const [line] = memory.checkVmValues(facts);
  t.match(line, {
    level: 'warning',
    finding: 'vm.page-cluster is 0, 3 wanted; vm.swappiness is 60, 100 wanted',
    fix: '/opt/memcloud/kernel-scripts/tune-vm.sh',
  });
  t.match(memory.checkVmValues({ ...facts, swaps: [diskSwap()] }), [{ level: 'ok' }]);
  const low = { ...HEALTHY.memory.vm, min_free_kbytes: 65_535, watermark_scale_factor: 199 };
  const sentence = /min_free_kbytes is 65535, at least 65536 .*factor is 199, at least 200/;
  t.match(memory.checkVmValues(withMemory({ vm: low })), [{ finding: sentence }]);
  const more = { ...HEALTHY.memory.vm, min_free_kbytes: 99_999, watermark_scale_factor: 500 };
  t.match(memory.checkVmValues(withMemory({ vm: more })), [{ level: 'ok' }], 'more is no fault');
  const older = { ...HEALTHY.memory.vm, watermark_scale_factor: undefined };
  t.match(
    memory.checkVmValues(withMemory({ vm: older })),
    [{ level: 'ok' }],
    'unknown to the kernel',
  );
});

t.test('vm values: what tune-vm.sh sets is what the check wants', async (t) => {
  for (const memoryKb of [512_000, 1_000_000, 16_000_000]) {
    const values = Object.fromEntries(VM_VALUES.map((name) => [name, '1']));
    const root = t.testdir({
      proc: { sys: { vm: values }, meminfo: `MemTotal:  ${memoryKb} kB\n` },
    });
    const script = path.resolve('kernel-scripts/tune-vm.sh');
    const env = { ...process.env, TUNE_ROOT: root };
    t.equal(spawnSync(script, { env, timeout: 20_000 }).status, 0);
    for (const name of VM_VALUES) {
      const set = Number(fs.readFileSync(path.join(root, 'proc/sys/vm', name), 'utf8'));
      t.equal(memory.vmWanted(name, memoryKb * 1024).atLeast, set, `${name} of ${memoryKb} kB`);
    }
  }
});

t.test(
  'the kit: nothing without a daemon, a warning for each missing part once it serves swap',
  async (t) => {
    t.strictSame(memory.checkKit({ ...HEALTHY, kit: undefined }), []);
    const missing = {
      part: 'no-swap',
      active: false,
      detail: 'memory.swap.max is max',
      risk: 'a stall',
    };
    const extra = { ...missing, part: 'realtime', optional: true };
    const there = { part: 'io-flusher', active: true, detail: 'all', risk: 'a wait' };
    const kit = [there, missing, extra];
    const [line, ...rest] = memory.checkKit({ ...HEALTHY, kit });
    t.strictSame(rest, [], 'nobody is warned of an optional part');
    t.match(line, {
      level: 'warning',
      finding: 'no-swap is missing (memory.swap.max is max): a stall',
    });
    t.match(memory.checkKit({ ...HEALTHY, kit, swaps: [] }), [
      { level: 'ok', finding: /lack: no-swap$/ },
    ]);
    t.match(memory.checkKit({ ...HEALTHY, kit: [there, extra] }), [
      { level: 'ok', finding: /io-flusher/ },
    ]);
    t.strictSame(faults(memory.checkKit(HEALTHY)), []);
  },
);
