/** Questions about lost data: whether the formulas hold, and what they say of a rack. */
import { seededRandom } from '../statistics.ts';
import { formatNumber } from '../table.ts';
import {
  lossChance,
  meanTimeToLoss,
  rackLossRate,
  simulateLosses,
  type LossPlan,
} from './durability.ts';
import { SLAB_BYTES } from './repair.ts';
import { chance, type Study } from './study.ts';

const HOUR_S = 3600;
const DAY_S = 24 * HOUR_S;
const YEAR_S = 365 * DAY_S;
/** Desktops that are switched off at night, machines that stay for a month, servers. */
const MTTFS: readonly { readonly name: string; readonly seconds: number }[] = [
  { name: '8 h', seconds: 8 * HOUR_S },
  { name: '30 d', seconds: 30 * DAY_S },
  { name: '1 y', seconds: YEAR_S },
];

interface CheckRow extends LossPlan {
  readonly deathCount: number;
  readonly lossCount: number;
  readonly lossesExpected: number;
  readonly lostSlabs: number;
  readonly slabsExpected: number;
}

/** Simulated and by formula, with donors that die far too often: otherwise nothing would be lost. */
export function lossCheckStudy(seed: number, quick: boolean): Study<CheckRow> {
  const base = { donorCount: 100, slabCount: 2000, mttf: DAY_S };
  const days = quick ? 50 : 300;
  const plans: LossPlan[] = [
    { ...base, copies: 1, repair: 60, duration: days * DAY_S },
    { ...base, copies: 2, repair: 60, duration: days * DAY_S },
    { ...base, copies: 2, repair: 600, duration: days * DAY_S },
    { ...base, copies: 3, repair: 600, duration: 4 * days * DAY_S },
    { ...base, copies: 3, repair: 2400, duration: days * DAY_S },
  ];
  const rows = plans.map((plan) => {
    const { donorCount, slabCount, copies, mttf, repair, duration } = plan;
    const losses = simulateLosses(plan, seededRandom(seed));
    return {
      ...{ ...plan, ...losses },
      lossesExpected: duration * rackLossRate(donorCount, copies, slabCount, mttf, repair),
      slabsExpected: (duration * slabCount) / meanTimeToLoss(copies, mttf, repair),
    };
  });
  return {
    title: '100 nodes, 2 000 slabs, each node dies once a day: simulated beside the formulas',
    rows,
    columns: {
      copies: ({ copies }) => String(copies),
      'repair s': ({ repair }) => String(repair),
      days: ({ duration }) => formatNumber(duration / DAY_S),
      deaths: ({ deathCount }) => String(deathCount),
      'deaths that lost': ({ lossCount }) => String(lossCount),
      formula: ({ lossesExpected }) => formatNumber(lossesExpected),
      'slabs lost': ({ lostSlabs }) => String(lostSlabs),
      'formula ': ({ slabsExpected }) => formatNumber(slabsExpected),
    },
  };
}

interface LossRow {
  readonly nodes: number;
  readonly copies: number;
  readonly mttf: string;
  readonly repairS: number;
  readonly slabChance: number;
  readonly rackChance: number;
  readonly lostMibPerYear: number;
}

/** Slabs of a node: half of 12.4 GiB, by copies. */
function slabsOf(nodes: number, copies: number): number {
  return Math.floor((nodes * 6.2 * 2 ** 30) / SLAB_BYTES / copies);
}

/**
 * What a year loses.
 *
 * @param repairsS - for racks of so many nodes, seconds until a copy is whole again, as simulated
 */
export function lossStudy(repairsS: ReadonlyMap<number, number>): Study<LossRow> {
  const rows = [...repairsS].flatMap(([nodes, repairS]) =>
    MTTFS.flatMap(({ name, seconds }) =>
      [1, 2, 3].map((copies): LossRow => {
        const slabCount = slabsOf(nodes, copies);
        const slabChance = lossChance(copies, seconds, repairS, YEAR_S);
        const rackRate = rackLossRate(nodes, copies, slabCount, seconds, repairS);
        const lostPerYear = (slabCount * YEAR_S) / meanTimeToLoss(copies, seconds, repairS);
        return {
          ...{ nodes, copies, mttf: name, repairS, slabChance },
          rackChance: -Math.expm1(-rackRate * YEAR_S),
          lostMibPerYear: (lostPerYear * SLAB_BYTES) / 2 ** 20,
        };
      }),
    ),
  );
  return {
    title: 'Lost in a year, if nodes die one by one (formulas; repair as simulated above, 1 Gb/s)',
    rows,
    columns: {
      nodes: ({ nodes }) => String(nodes),
      'node lives': ({ mttf }) => mttf,
      'repair s': ({ repairS }) => formatNumber(repairS),
      copies: ({ copies }) => String(copies),
      'a given slab': ({ slabChance }) => chance(slabChance),
      'anything in the rack': ({ rackChance }) => chance(rackChance),
      'MiB a year': ({ lostMibPerYear }) => formatNumber(lostMibPerYear),
    },
  };
}
