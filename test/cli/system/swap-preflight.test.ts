import fc from 'fast-check';
import t from 'tap';
import type { SwapLine } from '../../../cli/system/swap-device.ts';
import {
  explainSwapOff,
  judgeSwapOff,
  requireRoomForSwapOff,
} from '../../../cli/system/swap-preflight.ts';
import { SystemFiles } from '../../../cli/system/system-files.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;

function area(device: string, sizeBytes: number, usedBytes: number): SwapLine {
  return { device, sizeBytes, usedBytes, priority: 0 };
}

const cases: [string, number, SwapLine[], string[], boolean][] = [
  ['nothing on it', 0, [area('/dev/nbd0', GIB, 0)], ['/dev/nbd0'], true],
  // The floor is 256 MiB of 8 GiB.
  ['just room in RAM', 768 * MIB, [area('/dev/nbd0', GIB, 512 * MIB)], ['/dev/nbd0'], true],
  ['a byte too little', 768 * MIB - 1, [area('/dev/nbd0', GIB, 512 * MIB)], ['/dev/nbd0'], false],
  [
    'room on another area',
    256 * MIB,
    [area('/dev/nbd0', GIB, 512 * MIB), area('/dev/sda2', GIB, GIB - 512 * MIB)],
    ['/dev/nbd0'],
    true,
  ],
  [
    'zram is no room',
    256 * MIB,
    [area('/dev/nbd0', GIB, 512 * MIB), area('/dev/zram0', GIB, 0)],
    ['/dev/nbd0'],
    false,
  ],
  [
    'areas that leave together are no room for each other',
    256 * MIB,
    [area('/dev/nbd0', GIB, 512 * MIB), area('/dev/nbd1', GIB, 0)],
    ['/dev/nbd0', '/dev/nbd1'],
    false,
  ],
  [
    'areas that leave together add up',
    900 * MIB,
    [area('/dev/nbd0', GIB, 400 * MIB), area('/dev/nbd1', GIB, 400 * MIB)],
    ['/dev/nbd0', '/dev/nbd1'],
    false,
  ],
];
for (const [fact, availableBytes, swaps, devices, safe] of cases) {
  t.test(`${fact}: ${safe ? 'goes' : 'does not go'}`, async (t) => {
    const verdict = judgeSwapOff({ memoryBytes: 8 * GIB, availableBytes, swaps, devices });
    t.equal(verdict.safe, safe);
    t.equal(verdict.floorBytes, 256 * MIB);
  });
}

t.test('a small machine keeps a sixteenth free', async (t) => {
  const facts = { memoryBytes: 512 * MIB, availableBytes: 96 * MIB, devices: ['/dev/nbd0'] };
  const swaps = (used: number): SwapLine[] => [area('/dev/nbd0', GIB, used)];
  t.ok(judgeSwapOff({ ...facts, swaps: swaps(64 * MIB) }).safe);
  t.notOk(judgeSwapOff({ ...facts, swaps: swaps(64 * MIB + 1) }).safe);
});

t.test(
  'more RAM never turns a yes into a no, more on the device never a no into a yes',
  async () => {
    const bytes = fc.integer({ min: 0, max: 64 * GIB });
    fc.assert(
      fc.property(
        bytes,
        bytes,
        bytes,
        fc.integer({ min: 0, max: GIB }),
        (memory, free, used, more) => {
          const judge = (availableBytes: number, usedBytes: number): boolean =>
            judgeSwapOff({
              memoryBytes: memory,
              availableBytes,
              swaps: [area('/dev/nbd0', 64 * GIB, usedBytes)],
              devices: ['/dev/nbd0'],
            }).safe;
          if (judge(free, used) && !judge(free + more, used)) return false;
          return judge(free, used) || !judge(free, used + more);
        },
      ),
    );
  },
);

t.test('the refusal has the numbers, what to do, and how to go on all the same', async (t) => {
  const swaps = [area('/dev/nbd0', 8 * GIB, 3 * GIB), area('/dev/sda2', GIB, 0)];
  const facts = { memoryBytes: 8 * GIB, availableBytes: 1.5 * GIB, swaps, devices: ['/dev/nbd0'] };
  t.equal(
    explainSwapOff(judgeSwapOff(facts), facts.devices),
    'swap off would run this machine out of memory: 3 GiB on /dev/nbd0 have to come back, and ' +
      '256 MiB should stay free, but there are 1.5 GiB of RAM and 1 GiB on other swap areas. ' +
      'End programs that hold 768 MiB or turn other swap on first, and try again; ' +
      'or, knowing the risk, add --force.',
  );
});

t.test('on a machine: MemAvailable decides; one that does not say counts as full', async (t) => {
  const swaps = [area('/dev/nbd0', GIB, 512 * MIB)];
  const files = (meminfo: string): SystemFiles => new SystemFiles(t.testdir({ proc: { meminfo } }));
  const roomy = files('MemTotal:  8388608 kB\nMemFree: 1 kB\nMemAvailable:  786432 kB\n');
  t.doesNotThrow(() => requireRoomForSwapOff(roomy, swaps, ['/dev/nbd0']));
  const tight = files('MemTotal:  8388608 kB\nMemFree: 9999999 kB\nMemAvailable:  786431 kB\n');
  const refusal = { code: 'ERR_SWAP_UNSAFE', message: /512 MiB on \/dev\/nbd0/ };
  t.throws(() => requireRoomForSwapOff(tight, swaps, ['/dev/nbd0']), refusal);
  t.throws(() => requireRoomForSwapOff(files(''), swaps, ['/dev/nbd0']), refusal);
});
