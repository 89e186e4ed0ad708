/** What peers may use here: decided by key or by address, kept on disk, and never lost half way. */
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { silentLogger } from '../../common/log.ts';
import { ALLOWANCES_FILE_NAME, Allowances } from '../../peer/allowances.ts';

const A = 'a'.repeat(32);
const B = 'b'.repeat(32);

t.test('a decision counts at once, is on disk, mode 0600, and comes back', async (t) => {
  const directory = t.testdir({});
  const store = Allowances.load(directory, silentLogger);
  t.equal(store.of(A), null, 'as much as is offered, when nobody decided');
  store.set(A, 1000);
  store.set(B, 0);
  t.same([store.of(A), store.of(B)], [1000, 0]);
  const file = path.join(directory, ALLOWANCES_FILE_NAME);
  t.equal(path.basename(file), 'allowances.json');
  t.equal(fs.statSync(file).mode & 0o777, 0o600);
  const again = Allowances.load(directory, silentLogger);
  t.same([again.of(A), again.of(B)], [1000, 0]);
  again.forget(A);
  t.same([again.of(A), again.of(B)], [null, 0]);
  t.equal(Allowances.load(directory, silentLogger).of(A), null);
});

t.test('the default is of those whom nobody decided about', async (t) => {
  const store = Allowances.inMemory();
  store.setDefault(500);
  store.set(B, null);
  t.same([store.of(A), store.of(B)], [500, null], 'none is a decision too');
  store.setDefault(undefined);
  t.equal(store.of(A), null);
  store.setDefault(0);
  t.equal(store.of(A), 0);
});

t.test('a decision about an address becomes that of the node that answers there', async (t) => {
  const directory = t.testdir({});
  const store = Allowances.load(directory, silentLogger);
  store.expect(':7070', 42);
  t.equal(store.ofAddress('127.0.0.1:7070'), 42, 'under the one spelling of the address');
  const restarted = Allowances.load(directory, silentLogger);
  restarted.bind('127.0.0.1:7071', A);
  t.equal(restarted.of(A), null, 'another address');
  restarted.bind('127.0.0.1:7070', A);
  t.equal(restarted.of(A), 42);
  restarted.bind('127.0.0.1:7070', B);
  t.equal(restarted.of(B), null, 'of the first that answers only');
  t.equal(restarted.ofAddress('127.0.0.1:7070'), null);
  t.equal(Allowances.load(directory, silentLogger).of(A), 42);
  t.throws(() => store.expect('nonsense', 1), { code: 'ERR_USAGE_ADDRESS' });
});

t.test('the last word about an address counts; the oldest of too many is forgotten', async (t) => {
  const store = Allowances.inMemory();
  for (let port = 1; port <= 256; port += 1) store.expect(`10.0.0.1:${port}`, port);
  store.expect('10.0.0.1:1', 1001);
  t.same([store.ofAddress('10.0.0.1:1'), store.ofAddress('10.0.0.1:2')], [1001, 2]);
  store.expect('10.0.0.1:257', 257);
  t.same([store.ofAddress('10.0.0.1:1'), store.ofAddress('10.0.0.1:2')], [1001, null]);
});

t.test('more than 4096 nodes are refused, and nothing is changed', async (t) => {
  const store = Allowances.inMemory();
  const id = (index: number): string => index.toString(16).padStart(32, '0');
  for (let index = 0; index < 4096; index += 1) store.set(id(index), index);
  t.throws(() => store.set(id(4096), 1), { code: 'ERR_USAGE' });
  store.set(id(7), 99);
  t.same([store.of(id(7)), store.of(id(4096))], [99, null]);
});

t.test('what cannot be saved does not count', async (t) => {
  const directory = t.testdir({});
  const store = Allowances.load(path.join(directory, 'state'), silentLogger);
  fs.writeFileSync(path.join(directory, 'state'), 'a file where the directory should be');
  t.throws(() => store.set(A, 5), { code: 'ERR_NATIVE', message: /allowances cannot be saved/ });
  t.equal(store.of(A), null);
  t.throws(() => store.expect('10.0.0.1:1', 5), { code: 'ERR_NATIVE' });
  t.equal(store.ofAddress('10.0.0.1:1'), null);
});

t.test('a damaged file stops the start, and says what to do', async (t) => {
  const good = {
    format: 'memcloud-allowances/1',
    nodes: [{ nodeId: A, allowedBytes: 5 }],
    addresses: [{ address: '10.0.0.1:1', allowedBytes: null }],
  };
  const row = { nodeId: A, allowedBytes: 5 };
  const cases: [string, unknown][] = [
    ['another format', { ...good, format: 'memcloud-allowances/2' }],
    ['no list', { ...good, nodes: 5 }],
    ['no addresses', { format: good.format, nodes: [] }],
    ['half a node id', { ...good, nodes: [{ ...row, nodeId: 'abc' }] }],
    ['a negative size', { ...good, nodes: [{ ...row, allowedBytes: -1 }] }],
    ['a broken size', { ...good, nodes: [{ ...row, allowedBytes: 0.5 }] }],
    ['a size as text', { ...good, nodes: [{ ...row, allowedBytes: '5' }] }],
    ['a node twice', { ...good, nodes: [row, row] }],
    ['null as a row', { ...good, nodes: [null] }],
    ['too many', { ...good, nodes: Array.from({ length: 4097 }, () => row) }],
    ['no object', null],
    ['no address', { ...good, addresses: [{ address: '', allowedBytes: 1 }] }],
  ];
  for (const [what, value] of cases) {
    const directory = t.testdir({ [ALLOWANCES_FILE_NAME]: JSON.stringify(value) });
    fs.chmodSync(path.join(directory, ALLOWANCES_FILE_NAME), 0o600);
    t.throws(
      () => Allowances.load(directory, silentLogger),
      { code: 'ERR_IDENTITY', message: /restore it, or move it away/ },
      what,
    );
  }
  const directory = t.testdir({ [ALLOWANCES_FILE_NAME]: JSON.stringify(good) });
  fs.chmodSync(path.join(directory, ALLOWANCES_FILE_NAME), 0o644);
  t.throws(() => Allowances.load(directory, silentLogger), { message: /others may read it/ });
  fs.chmodSync(path.join(directory, ALLOWANCES_FILE_NAME), 0o600);
  t.equal(Allowances.load(directory, silentLogger).of(A), 5);
});
