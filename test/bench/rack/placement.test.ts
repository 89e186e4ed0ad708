/** The simulated rack keeps placement's promises, counts every byte, and repeats from its seed. */
import t from 'tap';
import { drawSome, makeDonors, SLAB_CHARGE_BYTES, zoneSizeOf } from '../../../bench/rack/donors.ts';
import {
  balanceOf,
  CHOOSERS,
  copyRack,
  fillRack,
  type ChooserName,
  type FillPlan,
} from '../../../bench/rack/fill.ts';
import { seededRandom } from '../../../bench/statistics.ts';

const PLAN: FillPlan = {
  ...{ donorCount: 40, copies: 3, demandShare: 0.2, viewCount: Infinity },
  ...{ slabsPerWord: 4, chooser: 'tier' },
};

t.test('nodes: every tenth machine runs two, in one zone; offers are uneven', async (t) => {
  const donors = makeDonors(1000, seededRandom(1));
  t.equal(donors.length, 1000);
  t.equal(new Set(donors.map(({ host }) => host)).size, 900);
  t.equal(zoneSizeOf(1000), 40);
  t.equal(new Set(donors.map(({ zone }) => zone)).size, 25);
  t.equal(zoneSizeOf(10), 2);
  const zones = new Map(donors.map(({ host, zone }) => [host, zone]));
  t.ok(
    donors.every(({ host, zone }) => zones.get(host) === zone),
    'a machine is in one zone',
  );
  const offers = new Set(donors.map(({ offeredBytes }) => offeredBytes / 2 ** 30));
  t.same(
    [...offers].sort((a, b) => a - b),
    [2, 4, 8, 16, 32],
  );
});

t.test('some of many, each once', async (t) => {
  const drawn = drawSome([1, 2, 3, 4, 5], 3, seededRandom(3));
  t.equal(new Set(drawn).size, 3);
  t.same(drawSome([1, 2], 9, seededRandom(3)).sort(), [1, 2], 'no more than there are');
});

for (const chooser of Object.keys(CHOOSERS) as ChooserName[]) {
  t.test(
    `${chooser}: no two copies on a machine, none at home, no byte more than there is`,
    async (t) => {
      const rack = fillRack({ ...PLAN, chooser }, seededRandom(7));
      const used = new Map(rack.donors.map((donor) => [donor, 0]));
      const shared = rack.slabs.filter(
        ({ copies }) => new Set(copies.map(({ host }) => host)).size < copies.length,
      );
      t.same(shared, []);
      const atHome = rack.slabs.filter(({ owner, copies }) =>
        copies.some(({ host }) => host === owner.host),
      );
      t.same(atHome, []);
      for (const { copies } of rack.slabs) {
        for (const copy of copies) used.set(copy, (used.get(copy) ?? 0) + SLAB_CHARGE_BYTES);
      }
      const wrong = [...used].filter(([donor, bytes]) => donor.usedBytes !== bytes);
      t.same(wrong, [], 'what a donor lends is what slabs have there');
      t.notOk(rack.donors.some(({ usedBytes, offeredBytes }) => usedBytes > offeredBytes));
      t.equal(balanceOf(rack).sharedHostCount, 0);
    },
  );
}

t.test('the same seed, the same rack; another, another', async (t) => {
  const shape = (seed: number) =>
    fillRack(PLAN, seededRandom(seed))
      .slabs.map(({ copies }) => copies.map(({ index }) => index).join(' '))
      .join(', ');
  t.equal(shape(5), shape(5));
  t.not(shape(5), shape(6));
});

t.test('a copy of a rack is its own', async (t) => {
  const rack = fillRack(PLAN, seededRandom(5));
  const copy = copyRack(rack);
  t.same(balanceOf(copy), balanceOf(rack));
  for (const donor of copy.donors) donor.give();
  t.notSame(balanceOf(copy), balanceOf(rack));
  t.equal(copy.slabs[0]?.owner, copy.donors[rack.slabs[0]?.owner.index ?? -1]);
});

t.test('who knows few borrows from few, and never from others', async (t) => {
  const rack = fillRack({ ...PLAN, viewCount: 8 }, seededRandom(2));
  const strange = rack.slabs.filter(({ owner, copies }) =>
    copies.some((copy) => rack.views[owner.index]?.includes(copy) !== true),
  );
  t.equal(strange.length, 0);
  t.ok(balanceOf(rack).lenderCount <= 8);
});

t.test('two choices spread better than one, and a choice by room better still', async (t) => {
  const of = (chooser: ChooserName) => {
    const plan = { ...PLAN, donorCount: 80, copies: 2, demandShare: 0.3, slabsPerWord: 0, chooser };
    return balanceOf(fillRack(plan, seededRandom(11))).maxOverMeanShare;
  };
  t.ok(of('tier') < of('one at random'));
  t.ok(of('tier, drawn by room') < of('tier'));
});

t.test('judged by hand: three donors', async (t) => {
  const [a, b, c] = makeDonors(3, () => 0.3);
  if (a === undefined || b === undefined || c === undefined) throw new Error('three');
  // Each offers 4 GiB; zones of one node, machines of their own.
  for (const [donor, count] of [
    [a, 3],
    [b, 1],
    [c, 2],
  ] as const) {
    for (let at = 0; at < count; at += 1) donor.take();
  }
  const slabs = [
    { owner: a, copies: [b, c] },
    { owner: a, copies: [b, b] },
  ];
  const rack = { donors: [a, b, c], slabs, views: [], refusedCount: 4, shortCount: 1 };
  t.match(balanceOf(rack), {
    ...{ maxOverMeanBytes: 1.5, maxOverMeanShare: 1.5, minOverMeanShare: 0.5, fullShare: 0 },
    ...{
      sharedHostCount: 1,
      oneZoneShare: 0.5,
      lenderCount: 2 / 3,
      refusedCount: 4,
      shortCount: 1,
    },
  });
});
