import t from 'tap';
import { capacityProblem } from '../../daemon/capacity.ts';

const GIB = 2 ** 30;
const two = [
  { name: 'alpha', freeBytes: GIB },
  { name: 'beta', freeBytes: 2 * GIB },
];

t.test('what fits and what does not', async (t) => {
  const cases: [number, number, boolean, typeof two, RegExp | undefined][] = [
    [3 * GIB, 1, false, two, undefined],
    [3.5 * GIB, 1, false, two, /1 copies of 3\.5 GiB need 3\.5 GiB, .* have 3 GiB free/],
    [1.5 * GIB, 2, false, two, undefined],
    [2 * GIB, 2, false, two, /2 copies of 2 GiB need 4 GiB, .*3 GiB free; .*--overcommit/],
    [2 * GIB, 2, true, two, undefined],
    [4096, 3, false, two, /3 copies need 3 providers that are up; up now: alpha, beta/],
    [4096, 3, true, two, /3 copies need 3 providers/],
    [4096, 1, false, [], /1 copies need 1 providers that are up; up now: none/],
    [GIB, 1, false, [{ name: 'over', freeBytes: -5 * GIB }, ...two], undefined],
  ];
  for (const [sizeBytes, copies, overcommit, providers, expected] of cases) {
    const problem = capacityProblem({ sizeBytes, copies, overcommit }, providers);
    if (expected === undefined) t.equal(problem, undefined, `${sizeBytes} x ${copies}`);
    else t.match(problem, expected);
  }
});
