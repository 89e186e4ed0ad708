/**
 * Simulation of the block device: several clients with requests of any alignment, all at once, over
 * providers that cut, starve and lie; clients that leave in the middle; a volume that closes under
 * load. Held to a twin that knows, for each byte, which values may be read: a byte read is one that
 * a write in flight or the last acknowledged ones put there, never another; every request ends
 * exactly once. `SEED=n` replays one seed, `SIM_SEEDS=n` runs more.
 */
import t from 'tap';
import { simulateDevice, type DeviceScenario } from '../helpers/device-sim.ts';

const SCENARIOS: DeviceScenario[] = [
  {
    name: 'calm',
    copies: 1,
    providers: 1,
    faults: {},
    churn: 0,
    leaving: 0,
    closeUnderLoad: false,
    mayFail: false,
  },
  {
    name: 'clients that leave',
    copies: 1,
    providers: 2,
    faults: { noCredit: 0.3 },
    churn: 0,
    leaving: 0.05,
    closeUnderLoad: false,
    mayFail: false,
  },
  {
    name: 'two copies, one provider away at a time',
    copies: 2,
    providers: 2,
    faults: { noCredit: 0.1, flip: 0.02 },
    churn: 0.02,
    leaving: 0.01,
    closeUnderLoad: false,
    mayFail: true,
  },
  {
    name: 'close under load',
    copies: 2,
    providers: 3,
    faults: { noCredit: 0.2, cut: 0.05 },
    churn: 0.02,
    leaving: 0.01,
    closeUnderLoad: true,
    mayFail: true,
  },
];

const firstSeed = Number(process.env['SEED'] ?? 1);
const seedCount = process.env['SEED'] === undefined ? Number(process.env['SIM_SEEDS'] ?? 10) : 1;
// A seed takes a twentieth of a second; a busy machine is slower.
t.setTimeout(60_000 + seedCount * 10_000);

for (const scenario of SCENARIOS) {
  t.test(`${scenario.name}: ${seedCount} seeds from ${firstSeed}`, async (t) => {
    for (let seed = firstSeed; seed < firstSeed + seedCount; seed += 1) {
      await simulateDevice(scenario, seed);
    }
    t.pass('every seed held');
  });
}
