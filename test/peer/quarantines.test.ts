import fs from 'node:fs';
import path from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import { silentLogger } from '../../common/log.ts';
import { QUARANTINE_FILE_NAME, Quarantines } from '../../peer/quarantines.ts';

const A = 'a'.repeat(32);
const B = 'b'.repeat(32);

t.test(
  'a verdict counts at once, is on disk a turn later, mode 0600, and comes back',
  async (t) => {
    const directory = t.testdir({});
    const file = path.join(directory, QUARANTINE_FILE_NAME);
    const store = Quarantines.load(directory, silentLogger);
    store.put(A, 'alpha', 'page 7 failed its tag');
    t.equal(store.reasonOf(A), 'page 7 failed its tag');
    t.equal(fs.existsSync(file), false, 'the page path does not wait for the disk');
    await turn();
    t.equal(fs.statSync(file).mode & 0o777, 0o600);
    const again = Quarantines.load(directory, silentLogger);
    t.match(again.list(), [{ nodeId: A, name: 'alpha', reason: 'page 7 failed its tag' }]);
    t.equal(again.reasonOf(B), undefined);
    again.pardon('alpha');
    t.same(Quarantines.load(directory, silentLogger).list(), []);
  },
);

t.test('whoever wants to know hears of each verdict, the first time', async (t) => {
  const store = Quarantines.inMemory();
  const heard: string[] = [];
  store.onPut = ({ nodeId, name, reason }) => heard.push(`${nodeId} ${name} ${reason}`);
  store.put(A, 'alpha', 'why\n');
  store.put(A, 'alpha', 'again');
  t.same(heard, [`${A} alpha why?`]);
});

t.test('flush writes what has not been written', async (t) => {
  const directory = t.testdir({});
  const store = Quarantines.load(directory, silentLogger);
  store.put(A, 'alpha', 'why');
  store.flush();
  t.equal(Quarantines.load(directory, silentLogger).reasonOf(A), 'why');
});

t.test('the first reason stays; words of others are made safe and cut', async (t) => {
  const store = Quarantines.inMemory();
  store.put(A, 'alpha', `\u001b[2J${'x'.repeat(999)}`);
  store.put(A, 'alpha', 'second');
  t.match(store.reasonOf(A), /^\?\[2Jx+$/);
  t.equal(store.reasonOf(A)?.length, 256);
});

t.test('a pardon is of one node, by id or name', async (t) => {
  const store = Quarantines.inMemory();
  for (const nodeId of [A, B]) store.put(nodeId, 'twin', 'why');
  t.throws(() => store.pardon('twin'), { code: 'ERR_PEER_UNKNOWN' }, 'several go by the name');
  t.throws(() => store.pardon('nobody'), { code: 'ERR_PEER_UNKNOWN' });
  t.equal(store.pardon(A.toUpperCase()).nodeId, A);
  t.equal(store.pardon('TWIN').nodeId, B);
  t.same(store.list(), []);
});

t.test('there is a bound; beyond it the oldest verdict makes room', async (t) => {
  const store = Quarantines.inMemory();
  const idOf = (index: number): string => index.toString(16).padStart(32, '0');
  for (let index = 0; index <= 4096; index += 1) store.put(idOf(index), 'n', 'why');
  t.equal(store.list().length, 4096);
  t.equal(store.reasonOf(idOf(0)), undefined);
  t.equal(store.reasonOf(idOf(4096)), 'why');
});

const good = { nodeId: A, name: 'alpha', reason: 'why', sinceMs: 1 };
for (const [name, file] of Object.entries({
  'no JSON': '{',
  'another format': { format: 'memcloud-quarantine/2', nodes: [] },
  'no list': { format: 'memcloud-quarantine/1' },
  'a short id': [{ ...good, nodeId: 'a' }],
  'a name that is none': [{ ...good, name: '\n' }],
  'a reason that moves the cursor': [{ ...good, reason: '\u001b[2J' }],
  'no time': [{ ...good, sinceMs: null }],
  nothing: [null],
})) {
  t.test(`a file with ${name} stops the start`, async (t) => {
    const whole = Array.isArray(file) ? { format: 'memcloud-quarantine/1', nodes: file } : file;
    const text = typeof whole === 'string' ? whole : JSON.stringify(whole);
    const directory = t.testdir({});
    fs.writeFileSync(path.join(directory, QUARANTINE_FILE_NAME), text, { mode: 0o600 });
    t.throws(() => Quarantines.load(directory, silentLogger), { code: 'ERR_IDENTITY' });
  });
}
