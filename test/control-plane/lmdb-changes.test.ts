import t from 'tap';
import {
  HISTORY_COUNT_MAX,
  HISTORY_LENGTH_MAX,
  LmdbChanges,
} from '../../control-plane/lmdb-changes.ts';
import type { MetaChange } from '../../control-plane/meta-store.ts';
import { Watched } from './meta-store-conformance.ts';

const change = (revision: number, key = 'k', value = 'v'): MetaChange => ({ key, value, revision });

/** What was put off to the end of the turn is done. */
const turn = (): Promise<void> => Promise.resolve();

t.test('a watch is told what it missed, then what comes, each once', async (t) => {
  const changes = new LmdbChanges(10);
  changes.publish([change(11, 'a'), change(11, 'b')]);
  changes.publish([change(12, 'a')]);
  const watched = new Watched();
  changes.watch('a', 10, watched);
  t.equal(watched.changes.length, 0, 'not before the caller has the way to end it');
  changes.publish([change(13, 'a')]);
  await turn();
  changes.publish([change(14, 'b')]);
  changes.publish([change(15, 'a')]);
  t.same(
    watched.changes.map(({ key, revision }) => `${key}${revision}`),
    ['a11', 'a12', 'a13', 'a15'],
  );
});

t.test('what began before the history is lost, and told so once', async (t) => {
  const changes = new LmdbChanges(10, 3);
  for (let revision = 11; revision <= 15; revision += 1) changes.publish([change(revision)]);
  const rows: [number, number, number][] = [
    [9, 0, 1],
    [11, 0, 1],
    [12, 3, 0],
    [15, 0, 0],
    [99, 0, 0],
  ];
  for (const [after, told, lost] of rows) {
    const watched = new Watched();
    changes.watch('', after, watched);
    await turn();
    t.same([watched.changes.length, watched.lostCount], [told, lost], `after ${after}`);
  }
});

t.test('a revision is kept whole or not at all', async (t) => {
  const changes = new LmdbChanges(0, 3);
  changes.publish([change(1, 'a'), change(1, 'b')]);
  changes.publish([change(2, 'a'), change(2, 'b')]);
  const watched = new Watched();
  changes.watch('', 1, watched);
  const late = new Watched();
  changes.watch('', 0, late);
  await turn();
  t.same([watched.changes.length, late.changes.length, late.lostCount], [2, 0, 1]);
});

t.test('who was there is told more than the history holds', async (t) => {
  const changes = new LmdbChanges(0, 2);
  const watched = new Watched();
  changes.watch('', 0, watched);
  await turn();
  changes.publish([change(1, 'a'), change(1, 'b'), change(1, 'c')]);
  t.equal(watched.changes.length, 3);
});

t.test('the history is bounded in number and in length', async (t) => {
  t.equal(HISTORY_COUNT_MAX, 10_000);
  t.equal(HISTORY_LENGTH_MAX, 16_777_216);
  const changes = new LmdbChanges(0);
  const value = 'x'.repeat(65_535);
  for (let revision = 1; revision <= 300; revision += 1)
    changes.publish([change(revision, 'k', value)]);
  const [early, late] = [new Watched(), new Watched()];
  changes.watch('', 43, early);
  changes.watch('', 44, late);
  await turn();
  t.same([early.lostCount, late.lostCount, late.changes.length], [1, 0, 256]);
});

t.test('ended in a callback, it is told no more; closed, all are lost', async (t) => {
  const changes = new LmdbChanges(0);
  let told = 0;
  const end = changes.watch('', 0, {
    onChanges: () => {
      told += 1;
      end();
    },
    onLost: () => t.fail('it was ended'),
  });
  const watched = new Watched();
  changes.watch('', 0, watched);
  await turn();
  changes.publish([change(1)]);
  changes.publish([change(2)]);
  changes.close();
  t.same([told, watched.changes.length, watched.lostCount], [1, 2, 1]);
});
