/** Group commit: order, batches, and what a failure leaves. */
import t from 'tap';
import { brokenAuditLine } from '../../common/audit-chain.ts';
import { MemcloudError } from '../../common/errors.ts';
import {
  AuditChain,
  EMPTY_AUDIT_HEAD,
  parseAuditHead,
  parseAuditLine,
} from '../../control-plane/audit.ts';
import { CommitQueue } from '../../control-plane/commit-queue.ts';
import { Steps, type Step } from '../../control-plane/decision.ts';
import { turns } from '../helpers/control-rig.ts';
import { MemoryMetaStore, type Fate } from '../helpers/memory-meta-store.ts';

const FENCE_KEY = '/memcloud/v1/leader';

interface Rig {
  readonly store: MemoryMetaStore;
  readonly queue: CommitQueue;
  readonly stored: Step[];
  readonly failures: string[];
}

async function makeRig(auditCountMax = 1000): Promise<Rig> {
  const store = new MemoryMetaStore();
  const revision = await store.put(FENCE_KEY, 'me');
  const stored: Step[] = [];
  const failures: string[] = [];
  const author = { controlNode: 'a'.repeat(32), epoch: 1 };
  const queue = new CommitQueue({
    store,
    fence: { key: FENCE_KEY, revision },
    chain: new AuditChain(EMPTY_AUDIT_HEAD, author, auditCountMax),
    headRevision: 0,
    wallClock: () => '2026-01-01T00:00:00.000Z',
    onStored: (step) => stored.push(step),
    onFailed: ({ code }) => failures.push(code),
  });
  return { store, queue, stored, failures };
}

/** Steps that each put one entry. */
function puts(...keys: string[]): Steps {
  const steps = new Steps();
  for (const [index, key] of keys.entries()) {
    if (index > 0) steps.list.push(new (steps.list[0]!.constructor as new () => Step)());
    steps.list.at(-1)!.put(key, { key });
  }
  return steps;
}

t.test('what is decided in one turn is one transaction', async (t) => {
  const { store, queue, stored } = await makeRig();
  const before = store.transactionCount;
  await Promise.all(Array.from({ length: 50 }, (_, n) => queue.add(puts(`k${n}`))));
  t.equal(store.transactionCount - before, 1);
  t.equal(stored.length, 50);
  await Promise.all(Array.from({ length: 500 }, (_, n) => queue.add(puts(`m${n}`))));
  t.equal(store.transactionCount - before, 1 + 6, '99 changes and the head of the log in each');
  t.equal(store.opCountMax, 100);
  t.same(
    stored.slice(50).map((step) => [...step.ops.keys()][0]),
    Array.from({ length: 500 }, (_, n) => `m${n}`),
    'in order',
  );
});

t.test('the last change of a key counts', async (t) => {
  const { store, queue } = await makeRig();
  const remove = new Steps();
  remove.next.remove('k');
  await Promise.all([
    queue.add(puts('k')),
    queue.add(remove),
    queue.add(puts('l')),
    queue.add(puts('l')),
  ]);
  t.notOk(store.entries.has('k'));
  t.ok(store.entries.has('l'));
});

t.test('an answer waits for all that came before, also one that changes nothing', async (t) => {
  const { store, queue } = await makeRig();
  await queue.add(new Steps());
  let release: (fate: Fate) => void = () => undefined;
  store.fate = () => new Promise((resolve) => (release = resolve));
  const order: string[] = [];
  const first = queue.add(puts('a', 'b')).then(() => order.push('steps'));
  const second = queue.add(new Steps()).then(() => order.push('read'));
  await turns();
  t.same(order, []);
  t.equal(queue.waitingCount, 3);
  release('done');
  await Promise.all([first, second]);
  t.same(order, ['steps', 'read']);
});

t.test('a failure ends it: all that waits is refused, nothing more goes out', async (t) => {
  const { store, queue, stored, failures } = await makeRig();
  store.fate = () => 'failed';
  const waiting = [queue.add(puts('a')), queue.add(puts('b')), queue.add(new Steps())];
  for (const added of waiting) await t.rejects(added, { code: 'ERR_CONTROL_STORE' });
  store.fate = () => 'done';
  await t.rejects(queue.add(puts('c')), { code: 'ERR_CONTROL_STORE' });
  t.same([stored.length, failures], [0, ['ERR_CONTROL_STORE']]);
  t.notOk(store.entries.has('c'));
});

t.test('another leader: nothing is stored', async (t) => {
  const { store, queue, failures } = await makeRig();
  await queue.add(puts('a'));
  await store.put(FENCE_KEY, 'another');
  await t.rejects(queue.add(puts('b')), { code: 'ERR_CONTROL_NOT_LEADER' });
  t.same(failures, ['ERR_CONTROL_NOT_LEADER']);
  t.notOk(store.entries.has('b'));
});

t.test('a transaction of our own that was done late: nothing is stored after it', async (t) => {
  const { store, queue } = await makeRig();
  await queue.add(puts('a'));
  await store.put('/memcloud/v1/audit-head', '{}');
  await t.rejects(queue.add(puts('b')), { code: 'ERR_CONTROL_NOT_LEADER' });
});

t.test('ended by its owner', async (t) => {
  const { queue, failures } = await makeRig();
  const waiting = queue.add(puts('a'));
  queue.close(new MemcloudError('ERR_CANCELLED', 'over'));
  await t.rejects(waiting, { code: 'ERR_CANCELLED' });
  t.same(failures, [], 'who ends it knows');
});

t.test('lines are stored with their step, and the oldest go beyond the bound', async (t) => {
  const { store, queue } = await makeRig(200);
  for (let n = 0; n < 500; n += 1) {
    const steps = puts(`k${n}`);
    steps.next.note('event', { n });
    await queue.add(steps);
  }
  const { entries } = await store.list('/memcloud/v1/audit/');
  t.ok(entries.length >= 200 && entries.length < 200 + 64, `${entries.length} lines`);
  const head = parseAuditHead((await store.get('/memcloud/v1/audit-head'))!.value);
  t.equal(head.sequence, 500);
  const lines = entries.map(({ value }) => parseAuditLine(value));
  const pruned = { sequence: head.prunedSequence, hash: head.prunedHash };
  t.equal(brokenAuditLine(lines, pruned), undefined);
  t.equal(lines.at(-1)!.hash, head.hash);
});
