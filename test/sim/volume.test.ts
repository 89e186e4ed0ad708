/**
 * Simulation: a volume over providers that delay, cut, restart, lie and run full, driven from one
 * seed. Held throughout: a page read is the last page acknowledged, or an error, never other bytes;
 * every request ends exactly once; nothing hangs. `SEED=n` replays one seed, `SIM_SEEDS=n` runs more.
 */
import t from 'tap';
import { simulateVolume, type VolumeScenario } from '../helpers/volume-sim.ts';

const SCENARIOS: VolumeScenario[] = [
  { name: 'calm', copies: 1, providers: 1, faults: {}, churn: 0, restarts: false, mayLose: false },
  {
    name: 'credit',
    copies: 1,
    providers: 2,
    faults: { noCredit: 0.2 },
    churn: 0,
    restarts: false,
    mayLose: false,
  },
  {
    name: 'cuts',
    copies: 1,
    providers: 2,
    faults: { cut: 0.1, noCredit: 0.05 },
    churn: 0.02,
    restarts: false,
    mayLose: false,
  },
  {
    name: 'two copies and cuts',
    copies: 2,
    providers: 3,
    faults: { noCredit: 0.05, cut: 0.02 },
    churn: 0.02,
    restarts: false,
    mayLose: false,
  },
  {
    name: 'two copies, one liar',
    copies: 2,
    providers: 2,
    faults: { flip: 0.2, swap: 0.1, forget: 0.1 },
    faulty: 1,
    churn: 0,
    restarts: false,
    mayLose: false,
  },
  {
    name: 'starving',
    copies: 2,
    providers: 2,
    faults: { noCredit: 0.7 },
    churn: 0,
    restarts: false,
    mayLose: false,
  },
  {
    name: 'close under load',
    copies: 2,
    providers: 3,
    faults: { noCredit: 0.2, cut: 0.05 },
    churn: 0.02,
    restarts: false,
    mayLose: true,
    closeUnderLoad: true,
  },
  {
    name: 'liars',
    copies: 1,
    providers: 2,
    faults: { flip: 0.1, swap: 0.05, forget: 0.02 },
    churn: 0,
    restarts: false,
    mayLose: true,
  },
  {
    name: 'restarts',
    copies: 1,
    providers: 2,
    faults: { cut: 0.02 },
    churn: 0.02,
    restarts: true,
    mayLose: true,
  },
  {
    name: 'answers of every kind',
    copies: 2,
    providers: 4,
    faults: { oddStatus: 0.05, noCredit: 0.05 },
    churn: 0,
    restarts: false,
    mayLose: true,
  },
  {
    name: 'one of three dies for good',
    copies: 2,
    providers: 3,
    faults: { noCredit: 0.05 },
    churn: 0,
    restarts: false,
    mayLose: false,
    dies: true,
    heals: true,
  },
  {
    name: 'one liar among three',
    copies: 2,
    providers: 3,
    faults: { flip: 0.1, swap: 0.05, forget: 0.05 },
    faulty: 1,
    churn: 0,
    restarts: false,
    mayLose: false,
    heals: true,
  },
  {
    name: 'providers that stand still',
    copies: 2,
    providers: 3,
    faults: {},
    churn: 0,
    restarts: false,
    mayLose: false,
    stops: 0.02,
    heals: true,
  },
  {
    name: 'a single copy on providers that stand still',
    copies: 1,
    providers: 2,
    faults: { noCredit: 0.05 },
    churn: 0,
    restarts: false,
    mayLose: false,
    stops: 0.02,
  },
  {
    name: 'leases are asked back',
    copies: 2,
    providers: 4,
    faults: { noCredit: 0.05 },
    churn: 0,
    restarts: false,
    mayLose: false,
    recalls: 0.02,
    heals: true,
  },
  {
    name: 'a single copy is asked back',
    copies: 1,
    providers: 3,
    faults: {},
    churn: 0,
    restarts: false,
    mayLose: false,
    recalls: 0.01,
    heals: true,
  },
  {
    name: 'everything',
    copies: 2,
    providers: 3,
    faults: { cut: 0.05, noCredit: 0.05, flip: 0.05, swap: 0.05, forget: 0.02 },
    churn: 0.02,
    restarts: true,
    mayLose: true,
  },
];

const firstSeed = Number(process.env['SEED'] ?? 1);
const seedCount = process.env['SEED'] === undefined ? Number(process.env['SIM_SEEDS'] ?? 12) : 1;
// A seed takes a twentieth of a second; a busy machine is slower.
t.setTimeout(60_000 + seedCount * 10_000);

for (const scenario of SCENARIOS) {
  t.test(`${scenario.name}: ${seedCount} seeds from ${firstSeed}`, async (t) => {
    for (let seed = firstSeed; seed < firstSeed + seedCount; seed += 1)
      await simulateVolume(scenario, seed);
    t.pass('every seed held');
  });
}

/** Bugs put in on purpose: a simulation that does not find them would find no others. */
const CANARIES: (Partial<VolumeScenario> & { name: string; found: RegExp })[] = [
  {
    name: 'a link that reorders calls',
    faults: { reorder: 0.3 },
    found: /no copy was lost|were lost/,
  },
  { name: 'a link that swallows a call', faults: { swallow: 0.01 }, found: /never ended|stuck/ },
  { name: 'a write that was never made', lostWrite: 0.02, found: /read other bytes/ },
  {
    name: 'a provider that forgets a page',
    faults: { forget: 0.01 },
    found: /no copy was lost|were lost/,
  },
];

for (const { found, ...canary } of CANARIES) {
  t.test(`canary: ${canary.name} is found`, async (t) => {
    const calm = SCENARIOS[0] as VolumeScenario;
    const tries = 10;
    for (let seed = firstSeed; seed < firstSeed + tries; seed += 1) {
      try {
        await simulateVolume({ ...calm, ...canary }, seed);
      } catch (error) {
        t.match(error, { message: found }, `after ${seed - firstSeed + 1} seeds`);
        return;
      }
    }
    t.fail(`not in ${tries} seeds`);
  });
}
