/** Where leases are placed. */
import fc from 'fast-check';
import t from 'tap';
import {
  place,
  type PlacementCandidate,
  type PlacementWish,
} from '../../control-plane/placement.ts';
import { Random } from '../helpers/fuzz.ts';

const GIB = 2 ** 30;
const candidate = (
  nodeId: string,
  changes: Partial<PlacementCandidate> = {},
): PlacementCandidate => ({
  ...{ nodeId, hostId: `host-${nodeId}`, zone: '', isOpen: true },
  ...{ offeredBytes: 4 * GIB, freeBytes: 2 * GIB, load: 0, ...changes },
});
const wish = (changes: Partial<PlacementWish> = {}): PlacementWish => ({
  ...{ sizeBytes: GIB, count: 1, zone: undefined, include: undefined, exclude: [] },
  ...{ ownHostId: undefined, usedHostIds: [], ...changes },
});
const half = (): number => 0.5;

const ONLY_B: Record<string, [PlacementCandidate[], PlacementWish]> = {
  'a is down': [[candidate('a', { isOpen: false }), candidate('b')], wish()],
  'a has too little room': [[candidate('a', { freeBytes: GIB - 1 }), candidate('b')], wish()],
  'a is in another zone': [
    [candidate('a', { zone: 'x' }), candidate('b', { zone: 'y' })],
    wish({ zone: 'y' }),
  ],
  'a is not included': [[candidate('a'), candidate('b')], wish({ include: ['b'] })],
  'a is excluded': [[candidate('a'), candidate('b')], wish({ exclude: ['a'] })],
  'a is on the own machine': [[candidate('a'), candidate('b')], wish({ ownHostId: 'host-a' })],
  'b is on the own machine, but included': [
    [candidate('a'), candidate('b')],
    wish({ ownHostId: 'host-b', include: ['b'] }),
  ],
  'a is on a machine that holds a lease of the request': [
    [candidate('a'), candidate('b')],
    wish({ usedHostIds: ['host-a'] }),
  ],
};
for (const [name, [candidates, asked]] of Object.entries(ONLY_B)) {
  t.test(`b is taken: ${name}`, async (t) => {
    for (const drawn of [0, 0.3, 0.99]) {
      t.same(
        place(candidates, asked, () => drawn),
        { nodeIds: ['b'] },
      );
    }
  });
}

t.test(
  'of two that are drawn the one with the greater free share, then the lesser load',
  async (t) => {
    const small = candidate('small', { offeredBytes: 3 * GIB });
    t.same(place([candidate('big'), small], wish(), half), { nodeIds: ['small'] });
    t.same(place([small, candidate('big')], wish(), half), { nodeIds: ['small'] });
    const busy = candidate('busy', { load: 0.9 });
    t.same(place([busy, candidate('idle')], wish(), half), { nodeIds: ['idle'] });
  },
);

t.test('leases of one request are in different zones while these have room', async (t) => {
  const near = ['a', 'b', 'c'].map((nodeId) => candidate(nodeId, { zone: 'near' }));
  const far = candidate('far', { zone: 'far', offeredBytes: 64 * GIB, freeBytes: GIB });
  const zoneOf = (nodeId: string): string => (nodeId === 'far' ? 'far' : 'near');
  for (const seed of Array.from({ length: 100 }, (_, index) => index)) {
    const numbers = new Random(seed);
    const random = (): number => numbers.below(1000) / 1000;
    const placed = place([...near, far], wish({ count: 2 }), random);
    const nodeIds = 'nodeIds' in placed ? placed.nodeIds : [];
    t.same(nodeIds.map(zoneOf).toSorted(), ['far', 'near'], `seed ${seed}`);
    const next = place([...near, far], wish({ usedHostIds: ['host-a'] }), random);
    t.same(next, { nodeIds: ['far'] }, 'also apart from those of before');
  }
  const full = { ...far, freeBytes: GIB - 1 };
  const placed = place([...near, full], wish({ count: 2 }), half);
  t.equal('nodeIds' in placed && placed.nodeIds.length, 2, 'one zone is better than none');
});

t.test('all or none: as many machines as leases', async (t) => {
  const twins = [candidate('a', { hostId: 'h' }), candidate('b', { hostId: 'h' }), candidate('c')];
  const placed = place(twins, wish({ count: 2 }), half);
  t.ok('nodeIds' in placed && placed.nodeIds.includes('c') && placed.nodeIds.length === 2);
  t.match(place(twins, wish({ count: 3 }), half), { fittingCount: 2, largestFreeBytes: 2 * GIB });
});

t.test('a refusal has the numbers', async (t) => {
  const candidates = [
    candidate('a', { freeBytes: GIB / 2 }),
    candidate('b', { freeBytes: GIB / 4 }),
    candidate('c', { isOpen: false }),
  ];
  const refusal = place(candidates, wish({ count: 2 }), half);
  t.match(refusal, { largestFreeBytes: GIB / 2, fittingCount: 0 });
  t.equal(
    'why' in refusal && refusal.why,
    'asked for 1 GiB on each of 2 machines; 0 fit, the largest free space is 512 MiB; of 3 providers ' +
      '2 lend now',
  );
});

t.test('a refusal says why providers that lend are not used', async (t) => {
  const candidates = [
    candidate('a', { hostId: 'own' }),
    candidate('b', { hostId: 'used' }),
    candidate('c', { zone: 'y' }),
    candidate('d', { zone: 'x' }),
    candidate('e', { zone: 'x', isOpen: false }),
  ];
  const why = (wanted: Partial<PlacementWish>): string => {
    const refusal = place(candidates, wish({ count: 4, ...wanted }), half);
    return 'why' in refusal ? refusal.why.replace(/^.*?; of/, 'of') : '';
  };
  t.equal(
    why({ ownHostId: 'own' }),
    'of 5 providers 4 lend now, 1 of them on the machine that asks',
  );
  t.equal(
    why({ usedHostIds: ['used'], exclude: ['d'] }),
    'of 5 providers 4 lend now, 1 of them on a machine of the same request, 1 of them to be left out',
  );
  t.equal(
    why({ zone: 'x' }),
    'of 5 providers 4 lend now, 3 of them not in the zone that is asked for',
  );
  t.equal(
    why({ include: ['d', 'plain'], ownHostId: 'own' }),
    'of 5 providers 4 lend now, 3 of them not asked for; asked for, and no provider of this control ' +
      'plane: 1',
  );
});

t.test('whatever is drawn, the wish holds', async () => {
  const anyCandidate = fc.record({
    nodeId: fc.uuid(),
    hostId: fc.constantFrom('h1', 'h2', 'h3', 'h4'),
    zone: fc.constantFrom('', 'x', 'y'),
    isOpen: fc.boolean(),
    offeredBytes: fc.integer({ min: 1, max: 100 }),
    freeBytes: fc.integer({ min: 0, max: 100 }),
    load: fc.double({ min: 0, max: 1, noNaN: true }),
  });
  fc.assert(
    fc.property(
      fc.array(anyCandidate, { maxLength: 12 }),
      fc.integer({ min: 1, max: 4 }),
      fc.option(fc.constantFrom('x', 'y'), { nil: undefined }),
      fc.integer(),
      (candidates, count, zone, seed) => {
        const random = new Random(seed);
        const asked = wish({ sizeBytes: 40, count, zone, ownHostId: 'h4' });
        const placed = place(candidates, asked, () => random.below(2 ** 20) / 2 ** 20);
        const fits = candidates.filter(
          (one) =>
            one.isOpen &&
            one.freeBytes >= 40 &&
            one.hostId !== 'h4' &&
            (zone ?? one.zone) === one.zone,
        );
        const hosts = new Set(fits.map(({ hostId }) => hostId));
        if (!('nodeIds' in placed)) return hosts.size < count && placed.fittingCount === hosts.size;
        const chosen = placed.nodeIds.map(
          (node) => fits.find(({ nodeId }) => nodeId === node)!.hostId,
        );
        return chosen.length === count && new Set(chosen).size === count;
      },
    ),
    { numRuns: 3000 },
  );
});

t.test('a hundred equal providers fill evenly', async (t) => {
  const random = new Random(3);
  const used = new Map<string, number>();
  const names = Array.from({ length: 100 }, (_, n) => `p${n}`);
  for (let lease = 0; lease < 10_000; lease += 1) {
    const now = names.map((name) =>
      candidate(name, { offeredBytes: 1000, freeBytes: 1000 - (used.get(name) ?? 0) }),
    );
    const placed = place(now, wish({ sizeBytes: 1 }), () => random.below(2 ** 30) / 2 ** 30);
    const [name] = 'nodeIds' in placed ? placed.nodeIds : [];
    used.set(name!, (used.get(name!) ?? 0) + 1);
  }
  const counts = [...used.values()];
  t.ok(
    Math.max(...counts) - Math.min(...counts) <= 10,
    `${Math.min(...counts)} to ${Math.max(...counts)}`,
  );
});
