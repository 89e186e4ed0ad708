import t from 'tap';
import type { SlabSource } from '../../common/ports.ts';
import { capacityProblem, localRoom, roomOf } from '../../daemon/capacity.ts';

const GIB = 2 ** 30;
const two = [
  { name: 'alpha', host: 'a', freeBytes: GIB },
  { name: 'beta', host: 'b', freeBytes: 2 * GIB },
];

t.test('what fits and what does not', async (t) => {
  const cases: [number, number, boolean, typeof two, RegExp | undefined][] = [
    [3 * GIB, 1, false, two, undefined],
    [3.5 * GIB, 1, false, two, /1 copy of 3\.5 GiB need 3\.5 GiB, .* have 3 GiB free/],
    [1.5 * GIB, 2, false, two, undefined],
    [2 * GIB, 2, false, two, /2 copies of 2 GiB need 4 GiB, .*3 GiB free; .*--overcommit/],
    [2 * GIB, 2, true, two, undefined],
    [
      4096,
      3,
      false,
      two,
      /3 copies need providers on 3 machines that are up; up now: alpha, beta$/,
    ],
    [4096, 3, true, two, /3 copies need providers on 3/],
    [4096, 1, false, [], /1 copy needs 1 provider that is up; up now: none/],
    [
      4096,
      2,
      false,
      two.map((provider) => ({ ...provider, host: 'one' })),
      /up now: alpha, beta, which run on the same machine/,
    ],
    [GIB, 1, false, [{ name: 'over', host: 'c', freeBytes: -5 * GIB }, ...two], undefined],
  ];
  for (const [sizeBytes, copies, overcommit, providers, expected] of cases) {
    const problem = capacityProblem({ sizeBytes, copies, overcommit }, providers);
    if (expected === undefined) t.equal(problem, undefined, `${sizeBytes} x ${copies}`);
    else t.match(problem, expected);
  }
});

t.test('the room of a lender, and of this machine before it was ever looked at', async (t) => {
  const usage = { offeredBytes: 5 * GIB, usedBytes: GIB, residentBytes: 0, leaseCount: 1 };
  const source = { nodeId: 'id', nodeName: 'alpha', hostId: 'h', usage } as unknown as SlabSource;
  t.strictSame(roomOf(source), { name: 'alpha', host: 'h', freeBytes: 4 * GIB });
  t.equal(roomOf({ ...source, hostId: '' }).host, 'id');
  const seen = { availableBytes: 3 * GIB, reserveBytes: GIB };
  t.equal(localRoom(source, seen).freeBytes, 2 * GIB);
  const { freeBytes } = localRoom(source, { availableBytes: 0, reserveBytes: 0 });
  t.ok(freeBytes > 0, `the system was asked: ${freeBytes}`);
});
