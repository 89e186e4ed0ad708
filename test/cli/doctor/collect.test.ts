/** Collecting from made-up trees of /proc, /sys and /lib; and from this machine what it must have. */
import fs from 'node:fs';
import t from 'tap';
import { collectKernel } from '../../../cli/doctor/collect-kernel.ts';
import { collectMemory, collectSwaps } from '../../../cli/doctor/collect-memory.ts';
import { collectFacts } from '../../../cli/doctor/collect.ts';
import { clockSynchronised } from '../../../cli/doctor/system-calls.ts';
import { SystemFiles } from '../../../cli/system/system-files.ts';
import { routeTo } from '../../../nbd-server/client/route.ts';

type FixtureTree = Exclude<Parameters<typeof t.testdir>[0], undefined>;

/** A queue, in fresh objects: tap refuses a tree that holds one object twice. */
function queue(change: Record<string, string> = {}): Record<string, string> {
  const queue = { max_sectors_kb: '128\n', max_hw_sectors_kb: '32767\n' };
  return { ...queue, discard_max_bytes: '4096\n', ...change };
}

t.test('the kernel: modules, ciphers, rights', async (t) => {
  const root = t.testdir({
    proc: {
      sys: { kernel: { osrelease: '6.1.0-test\n' } },
      crypto: 'name         : xts(aes)\ndriver       : xts-aes-aesni\n\nname         : aes\n',
      self: {
        status: 'Name:\tnode\nCapEff:\t0000000000203000\n',
        limits:
          'Limit  Soft Limit  Hard Limit  Units\nMax locked memory  8388608  8388608  bytes\n',
      },
    },
    sys: { module: { nbd: {}, dm_crypt: {} } },
    lib: {
      modules: {
        '6.1.0-test': {
          'modules.builtin': 'kernel/net/tls/tls.ko\n',
          'modules.dep':
            'kernel/crypto/chacha20poly1305.ko: \nkernel/x.ko: kernel/drivers/md/raid1.ko\n',
        },
      },
    },
  });
  const facts = collectKernel(new SystemFiles(root));
  t.match(facts, {
    release: '6.1.0-test',
    modules: {
      nbd: 'ready',
      tls: 'ready',
      'dm-crypt': 'ready',
      raid1: 'absent',
    },
    ciphers: { 'rfc7539(chacha20,poly1305)': 'loadable', 'xts(aes)': 'ready' },
    capabilities: 0x203000n,
    memlockBytes: 8_388_608,
  });
  const empty = collectKernel(new SystemFiles(t.testdir({})));
  t.match(empty, { release: '', modules: { nbd: 'absent' }, memlockBytes: 0 });
  t.equal(empty.capabilities, undefined);
});

t.test('memory: control groups of version 2, with and without a limit on swap', async (t) => {
  const group = (files: Record<string, string>): Record<string, Record<string, string>> => ({
    'system.slice': { 'memory.max': 'max\n', ...files },
  });
  const tree = (cgroup: FixtureTree): SystemFiles =>
    new SystemFiles(
      t.testdir({
        proc: {
          meminfo: 'MemTotal:        8000000 kB\n',
          self: { cgroup: '0::/system.slice/x.service\n' },
          sys: { vm: { swappiness: '60\n', 'page-cluster': '3\n' } },
        },
        sys: {
          fs: { cgroup },
          module: { zswap: { parameters: { enabled: 'Y\n', max_pool_percent: '20\n' } } },
        },
      }),
    );
  const controllers = { 'cgroup.controllers': 'cpu memory pids\n' };
  t.match(collectMemory(tree({ ...controllers, ...group({ 'memory.swap.max': 'max\n' }) })), {
    totalBytes: 8_192_000_000,
    cgroups: { version: 2, memory: true, swapLimit: true },
    vm: { swappiness: 60, 'page-cluster': 3, min_free_kbytes: undefined },
    zswap: { enabled: true, maxPoolPercent: 20 },
  });
  t.match(collectMemory(tree({ ...controllers, ...group({}) })).cgroups, { swapLimit: false });
  const alone = collectMemory(tree(controllers)).cgroups;
  t.strictSame(alone, { version: 2, memory: true, swapLimit: undefined });
  const hybrid = collectMemory(tree({ memory: {}, unified: {} })).cgroups;
  t.strictSame(hybrid, { version: 1, memory: false, swapLimit: undefined });
  t.equal(collectMemory(tree({})).cgroups.version, 0);
});

t.test('swap areas, with the stack of devices that each stands on', async (t) => {
  const root = t.testdir({
    proc: {
      swaps:
        'Filename\t\tType\t\tSize\t\tUsed\t\tPriority\n' +
        '/dev/dm-0   partition\t1048572\t2048\t10\n/dev/sda2   partition\t524284\t0\t-2\n' +
        '/swapfile  file\t1024\t0\t-3\n',
    },
    sys: {
      class: {
        block: {
          'dm-0': { queue: queue(), slaves: { nbd3: {}, nbd4: {} } },
          nbd3: { queue: queue({ max_sectors_kb: '512\n' }), slaves: {} },
          nbd4: { queue: queue(), slaves: {} },
          sda2: { queue: queue({ discard_max_bytes: '0\n' }) },
        },
      },
    },
  });
  const [mapped, disk, file] = collectSwaps(new SystemFiles(root));
  t.match(mapped, { device: '/dev/dm-0', usedBytes: 2_097_152, priority: 10 });
  t.strictSame(
    mapped?.queues.map(({ name, maxSectorsKb }) => [name, maxSectorsKb]),
    [
      ['nbd3', 512],
      ['nbd4', 128],
      ['dm-0', 128],
    ],
    'the lowest first',
  );
  t.match(disk?.queues, [{ name: 'sda2', discardMaxBytes: 0, maxHwSectorsKb: 32_767 }]);
  t.strictSame(file?.queues, []);
  t.strictSame(collectSwaps(new SystemFiles(t.testdir({}))), [], 'a kernel without swap');
});

t.test('the kernel tells the way to a host, and nothing is sent', async (t) => {
  const mtu = Number(fs.readFileSync('/sys/class/net/lo/mtu', 'utf8'));
  // Linux net/ipv4: no packet of IPv4 is longer than 65535 bytes.
  t.strictSame(routeTo('127.0.0.1'), { interface: 'lo', pathMtu: Math.min(mtu, 65_535) });
  t.equal(routeTo('::1')?.interface ?? 'lo', 'lo', 'IPv6, where the machine has it');
});

t.test('this machine, without a daemon', async (t) => {
  const facts = await collectFacts('/nowhere/memcloud.sock');
  t.match(facts.daemon, { reason: /no memnode answers on \/nowhere\/memcloud\.sock/ });
  t.strictSame([facts.network, facts.directProblems, facts.kit], [undefined, undefined, undefined]);
  t.match(facts.kernel.release, /^\d+\.\d+/);
  t.ok(facts.memory.totalBytes > 2 ** 26);
  t.type(facts.memory.vm['page-cluster'], 'number');
  t.ok(fs.existsSync(`${facts.scriptsFolder}/tune-vm.sh`), 'the scripts are where it says');
  t.ok([true, false, undefined].includes(clockSynchronised()));
});
