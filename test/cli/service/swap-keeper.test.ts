/** Swap on for certain and off for certain, with hands that do what kernels and daemons do. */
import t from 'tap';
import {
  keepSwapOn,
  takeSwapOff,
  type Ended,
  type Patience,
  type SwapHands,
} from '../../../cli/service/swap-keeper.ts';
import type { NetworkSwap } from '../../../cli/system/network-swap.ts';

/** Waits as long as the deadline allows, on a machine that goes on. */
const PATIENT = { patienceMs: 3_600_000, machineStops: false };

function area(device: string, nbdDevices = [device]): NetworkSwap {
  return { device, sizeBytes: 2 ** 30, usedBytes: 2 ** 20, priority: -2, nbdDevices };
}

/** A machine: what is on, what the daemon answers, and what was done. */
class Machine {
  areas: NetworkSwap[] = [];
  recorded: string[] = [];
  /** Devices that the daemon lists; undefined: no daemon. */
  listed: string[] | undefined = [];
  /** Exit codes of `swap on` and `swap off`, last one for ever, and what happens with each. */
  answers: (() => number)[] = [];
  /** `memcloud` runs until it is vain; what happens each second. */
  endless = false;
  whileRunning: () => void = () => undefined;
  onDisconnect: (device: string) => void = () => undefined;
  readonly did: string[] = [];
  nowMs = 0;

  drop(device: string): void {
    this.areas = this.areas.filter((one) => one.device !== device);
  }

  get hands(): SwapHands {
    return {
      areas: () => this.areas,
      recorded: () => this.recorded,
      record: (devices) => (this.recorded = [...devices]),
      memcloud: async (words, until) => this.#answer(words, until),
      disconnect: async (device) => {
        this.did.push(`disconnect ${device}`);
        this.onDisconnect(device);
      },
      swapOff: async (device) => {
        this.did.push(`swapoff ${device}`);
        this.drop(device);
        return { code: 0, output: '', complaint: '' };
      },
      nowMs: () => this.nowMs,
      wait: async (ms) => {
        this.did.push(`wait ${ms}`);
        this.nowMs += ms;
      },
      note: () => undefined,
    };
  }

  #answer(words: readonly string[], until: Patience): Ended {
    const text = words.join(' ');
    if (text === '--json swap ls') {
      if (this.listed === undefined) return { code: 3, output: '', complaint: 'no memnode' };
      const output = JSON.stringify(this.listed.map((device) => ({ device })));
      return { code: 0, output, complaint: '' };
    }
    this.did.push(text);
    if (this.endless) {
      while (!until.isVain) {
        this.nowMs += 1000;
        this.whileRunning();
      }
      return { code: null, output: '', complaint: '' };
    }
    const answer = this.answers.length > 1 ? this.answers.shift() : this.answers[0];
    return { code: answer?.() ?? 1, output: '', complaint: 'why not' };
  }
}

t.test('swap on waits for providers, longer and longer', async (t) => {
  const machine = new Machine();
  machine.answers = [
    ...[3, 7, 5, 7, 7, 7].map((code) => () => code),
    () => {
      machine.areas = [area('/dev/nbd0')];
      return 0;
    },
  ];
  t.equal(await keepSwapOn(machine.hands, ['8G', '--copies', '2'], 60_000), 0);
  const waits = machine.did.filter((text) => text.startsWith('wait'));
  t.strictSame(waits, [
    'wait 1000',
    'wait 2000',
    'wait 4000',
    'wait 8000',
    'wait 8000',
    'wait 8000',
  ]);
  t.equal(machine.did[0], 'swap on --must-return 8G --copies 2');
  t.strictSame(machine.recorded, ['/dev/nbd0'], 'written down');
});

t.test('swap on gives up at its deadline, and at once for what time does not mend', async (t) => {
  const machine = new Machine();
  machine.answers = [() => 7];
  t.equal(await keepSwapOn(machine.hands, ['8G'], 60_000), 7);
  t.ok(machine.nowMs <= 60_000, `after ${machine.nowMs} ms`);
  const wrong = new Machine();
  wrong.answers = [() => 2];
  t.equal(await keepSwapOn(wrong.hands, ['8G'], 60_000), 2);
  t.strictSame(wrong.did, ['swap on --must-return 8G']);
});

t.test('swap that is on already is enough, if it is ours', async (t) => {
  const machine = new Machine();
  machine.areas = [area('/dev/nbd0')];
  machine.recorded = ['/dev/nbd0'];
  t.equal(await keepSwapOn(machine.hands, ['8G'], 60_000), 0);
  t.strictSame(machine.did, []);
  const foreign = new Machine();
  foreign.areas = [area('/dev/nbd7')];
  foreign.answers = [
    () => {
      foreign.areas = [...foreign.areas, area('/dev/nbd0')];
      return 0;
    },
  ];
  t.equal(await keepSwapOn(foreign.hands, ['8G'], 60_000), 0);
  t.strictSame(foreign.recorded, ['/dev/nbd0'], 'only ours is written down');
});

t.test('swap off: nothing is on, nothing is asked', async (t) => {
  const machine = new Machine();
  await takeSwapOff(machine.hands, { deadlineMs: 1000, ...PATIENT, daemonReplaced: false });
  t.strictSame(machine.did, []);
});

t.test('swap off is over only when the kernel says so, whoever does it', async (t) => {
  const machine = new Machine();
  machine.areas = [area('/dev/nbd0')];
  machine.listed = ['/dev/nbd0'];
  // systemd was first: the kernel refuses us, and the area is there until systemd is through.
  machine.answers = [
    () => 1,
    () => 1,
    () => {
      machine.drop('/dev/nbd0');
      return 1;
    },
  ];
  await takeSwapOff(machine.hands, {
    deadlineMs: 60_000,
    ...PATIENT,
    daemonReplaced: false,
  });
  t.strictSame(machine.did, [
    'swap off --force',
    'wait 1000',
    'swap off --force',
    'wait 1000',
    'swap off --force',
    'wait 1000',
  ]);
});

t.test('swap off fails at its deadline and says what is left', async (t) => {
  const machine = new Machine();
  machine.areas = [area('/dev/nbd0')];
  machine.recorded = ['/dev/nbd0'];
  machine.answers = [() => 1];
  await t.rejects(
    takeSwapOff(machine.hands, { deadlineMs: 5000, ...PATIENT, daemonReplaced: false }),
    {
      code: 'ERR_TIMEOUT',
      message: 'swap is not off: 1 MiB are still on /dev/nbd0: why not',
    },
  );
  t.equal(machine.nowMs, 5000);
});

t.test(
  'swap off gives up when nothing comes back any more, not while something does',
  async (t) => {
    const machine = new Machine();
    const size = 2 ** 20;
    const at = (usedBytes: number): NetworkSwap[] => [{ ...area('/dev/nbd0'), usedBytes }];
    machine.areas = at(100 * size);
    machine.recorded = ['/dev/nbd0'];
    machine.endless = true;
    // A slow minute, then every provider is gone and one page comes every 15 s.
    machine.whileRunning = () => {
      const used = machine.areas[0]?.usedBytes ?? 0;
      if (machine.nowMs <= 60_000) machine.areas = at(used - size / 10);
      else if (machine.nowMs % 15_000 === 0) machine.areas = at(used - 4096);
    };
    const options = { ...PATIENT, deadlineMs: 240_000, patienceMs: 30_000, daemonReplaced: false };
    await t.rejects(takeSwapOff(machine.hands, options), {
      code: 'ERR_TIMEOUT',
      message: /^swap is not off: 94 MiB are still on \/dev\/nbd0: nothing came back/,
    });
    t.ok(machine.nowMs > 80_000 && machine.nowMs < 100_000, `after ${machine.nowMs} ms`);
    t.strictSame(machine.did, ['swap off --force', 'wait 1000'], 'no second try');
  },
);

t.test("another program's swap on the network is left alone", async (t) => {
  const machine = new Machine();
  machine.areas = [area('/dev/nbd7')];
  machine.answers = [() => 6];
  await takeSwapOff(machine.hands, { deadlineMs: 5000, ...PATIENT, daemonReplaced: false });
  t.strictSame(machine.did, []);
});

t.test('a device whose daemon is gone is disconnected, one that lives alone is not', async (t) => {
  for (const code of [3, 6]) {
    const machine = new Machine();
    machine.areas = [area('/dev/nbd0'), area('/dev/dm-0', ['/dev/nbd1'])];
    machine.recorded = ['/dev/nbd0', '/dev/dm-0'];
    machine.listed = code === 3 ? undefined : [];
    machine.answers = [() => code];
    await takeSwapOff(machine.hands, {
      deadlineMs: 5000,
      ...PATIENT,
      daemonReplaced: false,
    });
    t.strictSame(machine.did.slice(1, 4), [
      ...['disconnect /dev/nbd0', 'swapoff /dev/nbd0'],
      'swapoff /dev/dm-0',
    ]);
    t.strictSame(machine.areas, []);
  }
});

t.test('while the daemon is only replaced, swap that lives without it stays', async (t) => {
  const machine = new Machine();
  machine.areas = [area('/dev/nbd0'), area('/dev/dm-0', ['/dev/nbd1'])];
  machine.recorded = ['/dev/nbd0', '/dev/dm-0'];
  machine.listed = undefined;
  machine.answers = [() => 3];
  await takeSwapOff(machine.hands, { deadlineMs: 5000, ...PATIENT, daemonReplaced: true });
  t.strictSame(machine.areas, [area('/dev/dm-0', ['/dev/nbd1'])]);
  t.strictSame(machine.recorded, ['/dev/dm-0'], 'and is still written down');
});
