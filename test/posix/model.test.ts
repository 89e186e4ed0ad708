/**
 * The model judges rightly: tmpfs agrees with tmpfs, most kinds of operation do something,
 * operations left out are seen, and a seed gives the same history again.
 */
import fs from 'node:fs';
import t from 'tap';
import { tmpfsBase } from '../helpers/tmpfs.ts';
import { modelSeed, spawnModel } from './run-model.ts';

/** tmpfs has user attributes since Linux 6.6; without them the operations on them all fail alike. */
const KIND_COUNT_MIN = 24;

function pair(base: string, name: string): [string, string] {
  const paths: [string, string] = [`${base}/${name}-a`, `${base}/${name}-b`];
  paths.forEach((path) => fs.mkdirSync(path));
  return paths;
}

t.test('tmpfs agrees with tmpfs, and most operations do something', async (t) => {
  const seed = modelSeed();
  t.comment(`SEED=${seed}`);
  const end = await spawnModel(...pair(tmpfsBase(t), 'same'), seed, 60, 15_000);
  t.equal(end.status, 0, end.stderr);
  const { count, tally } = JSON.parse(end.stdout) as {
    count: number;
    tally: Record<string, { tried: number; succeeded: number }>;
  };
  t.ok(count > 2000, `${count} operations`);
  const useful = Object.entries(tally).filter(([, { succeeded }]) => succeeded > 0);
  t.ok(useful.length >= KIND_COUNT_MIN, `${useful.map(([name]) => name).join(' ')}`);
});

t.test('a seed gives the same history again', async (t) => {
  const base = tmpfsBase(t);
  const ends = [
    await spawnModel(...pair(base, 'one'), 4711, 60, 3000),
    await spawnModel(...pair(base, 'two'), 4711, 60, 3000),
  ];
  t.equal(ends[0]?.status, 0, ends[0]?.stderr ?? '');
  t.equal(ends[0]?.stdout, ends[1]?.stdout);
});

t.test('ten operations that one side did not do are seen', async (t) => {
  const base = tmpfsBase(t);
  const runs = Array.from({ length: 4 }, (_, i) =>
    spawnModel(...pair(base, `${i}`), 99, 60, 460, 400 + 10 * i),
  );
  const seen = (await Promise.all(runs)).filter(({ status }) => status === 1);
  // Ten operations that change nothing would not be seen.
  t.ok(seen.length >= 2, `${seen.length} of 4 seen`);
  for (const { stderr } of seen) {
    t.match(stderr, /SEED=99, operation \d+: .*expected [^]*, got [^]*; the last operations:\n/);
  }
});
