/**
 * Volumes and block devices under scenarios drawn at random: numbers of copies and providers, and
 * every fault at any rate. The simulations hold that no byte is another one, that every request ends
 * once and that nothing is left behind.
 *
 * SEED=n repeats a run; FUZZ_SECONDS=n lengthens it.
 */
import t from 'tap';
import { simulateDevice } from '../helpers/device-sim.ts';
import { seededRandom, type SimFaults } from '../helpers/sim-world.ts';
import { simulateVolume } from '../helpers/volume-sim.ts';

const firstSeed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
const seconds = Number(process.env['FUZZ_SECONDS'] ?? 5);
t.comment(`SEED=${firstSeed}`);
t.setTimeout((seconds + 120) * 1000);

/** Each fault is absent, rare, or frequent. */
function drawFaults(random: () => number): Partial<SimFaults> {
  const rate = (most: number): number => {
    const kind = random();
    if (kind < 0.5) return 0;
    return kind < 0.8 ? most / 20 : most * random();
  };
  return {
    noCredit: rate(0.8),
    cut: rate(0.4),
    flip: rate(0.4),
    swap: rate(0.4),
    forget: rate(0.2),
    oddStatus: rate(0.2),
  };
}

async function runOnce(seed: number): Promise<void> {
  const random = seededRandom(seed);
  const copies = 1 + Math.floor(random() * 3);
  const common = {
    name: `fuzz ${seed}`,
    copies,
    providers: copies + Math.floor(random() * 3),
    faults: drawFaults(random),
    churn: random() < 0.5 ? 0 : random() * 0.1,
    closeUnderLoad: random() < 0.3,
  };
  if (random() < 0.5) {
    await simulateVolume({ ...common, restarts: random() < 0.5, mayLose: true }, seed);
  } else {
    // A client stays for a few requests at least.
    await simulateDevice({ ...common, leaving: random() * 0.05, mayFail: true }, seed);
  }
}

t.test('no scenario gives other bytes, a request without an end, or leftovers', async (t) => {
  const endMs = Date.now() + seconds * 1000;
  let seed = firstSeed;
  const once = process.env['SEED'] !== undefined;
  do {
    await runOnce(seed);
    seed += 1;
  } while (!once && Date.now() < endMs);
  t.pass(`${seed - firstSeed} runs`);
  t.comment(`${seed - firstSeed} runs, last SEED=${seed - 1}`);
});
