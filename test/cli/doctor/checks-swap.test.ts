import t from 'tap';
import type { DirectDeviceInfo } from '../../../common/rpc-schema.ts';
import * as swap from '../../../cli/doctor/checks-swap.ts';
import type { MachineFacts, SwapFacts } from '../../../cli/doctor/facts.ts';
import {
  daemonFacts,
  diskSwap,
  healthyFacts,
  remoteSwap,
  volumeDetails,
} from '../../helpers/machine-facts.ts';

const HEALTHY = healthyFacts();
const QUEUE = { name: 'nbd0', maxSectorsKb: 128, maxHwSectorsKb: 32_767, discardMaxBytes: 4096 };

function withSwaps(...swaps: SwapFacts[]): MachineFacts {
  return { ...HEALTHY, swaps };
}

t.test('zram above remote swap, or beside it, turns the order of pages around', async (t) => {
  const zram = (priority: number): SwapFacts => diskSwap({ device: '/dev/zram0', priority });
  for (const [swaps, level] of [
    [[zram(100), remoteSwap({ priority: 5 })], 'warning'],
    [[zram(5), remoteSwap({ priority: 5 })], 'warning'],
    [[zram(4), remoteSwap({ priority: 5 })], 'ok'],
    [[zram(100), diskSwap()], 'ok'],
    [[zram(100)], 'ok'],
  ] as const) {
    const facts = withSwaps(...swaps);
    t.match(swap.checkZram(facts), [{ level }], JSON.stringify(swaps.map((s) => s.priority)));
  }
  const facts = withSwaps(zram(100), remoteSwap());
  const enable = 'swapoff /dev/zram0 && echo Y >/sys/module/zswap/parameters/enabled';
  t.match(swap.checkZram(facts), [{ fix: enable }]);
  const memory = { ...HEALTHY.memory, zswap: undefined };
  t.match(swap.checkZram({ ...facts, memory }), [{ fix: 'swapoff /dev/zram0' }]);
});

t.test('zswap: off is fine, a pool above half of the RAM is not', async (t) => {
  const cases: [MachineFacts['memory']['zswap'], string, RegExp][] = [
    [undefined, 'ok', /not in this kernel/],
    [{ enabled: false, maxPoolPercent: 90 }, 'ok', /^off; on, it would keep/],
    [{ enabled: true, maxPoolPercent: 50 }, 'ok', /at most 50 %/],
    [{ enabled: true, maxPoolPercent: 51 }, 'warning', /up to 51 %/],
  ];
  for (const [zswap, level, finding] of cases) {
    const memory = { ...HEALTHY.memory, zswap };
    t.match(swap.checkZswap({ ...HEALTHY, memory }), [{ level, finding }]);
  }
  t.match(swap.checkZswap({ ...HEALTHY, swaps: [] }), [{ finding: 'off' }]);
});

t.test('queues: each device of the stack, and only of remote swap', async (t) => {
  t.strictSame(swap.checkSwapQueues(withSwaps(diskSwap())), [], 'a disk is not ours');
  t.match(swap.checkSwapQueues(withSwaps(remoteSwap())), [{ level: 'ok' }]);
  const crypt = { ...QUEUE, name: 'dm-0', maxSectorsKb: 1280 };
  const stack = (maxSectorsKb: number): SwapFacts =>
    remoteSwap({ device: '/dev/dm-0', queues: [{ ...QUEUE, maxSectorsKb }, crypt] });
  t.match(swap.checkSwapQueues(withSwaps(stack(128))), [{ level: 'ok' }], 'what stands on it');
  for (const [maxSectorsKb, finding] of [
    [512, /up to 512 KiB pin their pages/],
    [4, /cut into 4 KiB/],
  ] as const) {
    const fix = 'echo 128 >/sys/class/block/nbd0/queue/max_sectors_kb';
    const results = swap.checkSwapQueues(withSwaps(stack(maxSectorsKb)));
    t.match(results, [{ check: 'swap /dev/dm-0', level: 'warning', finding, fix }]);
  }
  const mute = remoteSwap({ queues: [{ ...QUEUE, discardMaxBytes: 0 }] });
  const finding = /^nbd0 takes no discards/;
  t.match(swap.checkSwapQueues(withSwaps(mute)), [{ level: 'warning', finding }]);
});

t.test('swap on one copy: a warning; on two, or a volume that is no swap: none', async (t) => {
  const facts = (copies: number, devices: string[]): MachineFacts => ({
    ...HEALTHY,
    daemon: daemonFacts({}, [volumeDetails({ copies, devices })]),
  });
  t.match(swap.checkSwapCopies(facts(1, ['/dev/nbd0'])), [
    {
      check: 'copies of swap /dev/nbd0',
      level: 'warning',
      finding: /^one \(volume disk\)/,
      fix: 'memcloud swap on 67108864 --copies 2 && memcloud swap off /dev/nbd0',
    },
  ]);
  const run = volumeDetails({ name: 'run-7', copies: 1, devices: ['/dev/nbd0'] });
  const daemon = daemonFacts({}, [run]);
  t.match(swap.checkSwapCopies({ ...HEALTHY, daemon }), [{ fix: 'memcloud run --copies 2' }]);
  t.match(swap.checkSwapCopies(facts(2, ['/dev/nbd0'])), [{ level: 'ok' }]);
  t.strictSame(swap.checkSwapCopies(facts(1, ['/dev/nbd1'])), []);
  t.strictSame(swap.checkSwapCopies({ ...HEALTHY, daemon: { reason: 'x' } }), []);
});

t.test('direct devices: copies, lenders, losses', async (t) => {
  const leg = (name: string, state: string): DirectDeviceInfo['legs'][number] => {
    return { device: '/dev/nbd0', nodeId: `id-${name}`, name, state, connection: 'tls' };
  };
  const live = [leg('alpha', 'live'), leg('beta', 'live')];
  const cases: [Partial<DirectDeviceInfo>, string, RegExp, RegExp][] = [
    [{}, 'ok', /^2 copies/, /^$/],
    [
      { copies: 1, legs: live.slice(1) },
      'warning',
      /^one copy:/,
      /swap move \/dev\/md7 --copies 2/,
    ],
    [
      { legs: [leg('alpha', 'reconnecting'), leg('beta', 'live')] },
      'warning',
      /^alpha is reconnecting$/,
      /peer ls/,
    ],
    [
      { health: 'degraded', legs: [leg('al\npha', 'lost'), leg('beta', 'live')] },
      'warning',
      /^one copy is left \(al\?pha is lost\)$/,
      /swap move \/dev\/md7 --copies 2/,
    ],
    [
      { health: 'lost', legs: [leg('alpha', 'lost')] },
      'problem',
      /were lost \(alpha is lost\)/,
      /off/,
    ],
  ];
  for (const [change, level, finding, fix] of cases) {
    const whole = {
      device: '/dev/md7',
      sizeBytes: 4096,
      copies: 2,
      health: 'ok',
      managed: false,
      legs: live,
    };
    const daemon = daemonFacts({ directDevices: [{ ...whole, ...change }] });
    const check = 'direct swap /dev/md7';
    const results = swap.checkDirectDevices({ ...HEALTHY, daemon });
    t.match(results, [{ check, level, finding, fix }]);
  }
  t.strictSame(swap.checkDirectDevices({ ...HEALTHY, daemon: { reason: 'x' } }), []);
});

t.test('direct swap over bare TCP is warned of', async (t) => {
  const leg = { device: '/dev/nbd0', nodeId: 'id', name: 'a', state: 'live' };
  const device = { device: '/dev/dm-1', sizeBytes: 4096, copies: 2, health: 'ok', managed: false };
  const checked = (connection: 'tls' | 'wireguard' | 'plain'): unknown => {
    const directDevices = [{ ...device, legs: [{ ...leg, connection }] }];
    return swap.checkDirectDevices({ ...HEALTHY, daemon: daemonFacts({ directDevices }) });
  };
  t.match(checked('tls'), [{ level: 'ok' }]);
  t.match(checked('wireguard'), [{ level: 'ok' }]);
  t.match(checked('plain'), [{ level: 'warning', finding: /bare TCP/, fix: /swap off/ }]);
});

t.test('limits of a command that was killed, with the way back', async (t) => {
  t.same(swap.checkAbandonedScopes(HEALTHY), []);
  const before = { 'memory.max': 'max', 'memory.high': '4096', 'memory.swap.max': '0' };
  const directory = '/sys/fs/cgroup/x';
  const abandonedScopes = [{ directory, before, device: '/dev/nbd0' }];
  const on = withSwaps(remoteSwap({ device: '/dev/nbd0' }));
  t.match(swap.checkAbandonedScopes({ ...on, abandonedScopes }), [
    { level: 'problem', finding: /killed/, fix: 'memcloud swap off /dev/nbd0' },
  ]);
  const fix =
    `echo max >${directory}/memory.max && echo 4096 >${directory}/memory.high && ` +
    `echo 0 >${directory}/memory.swap.max`;
  t.match(swap.checkAbandonedScopes({ ...withSwaps(), abandonedScopes }), [{ fix }]);
});
