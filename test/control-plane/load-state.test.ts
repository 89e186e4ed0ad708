/** Reading all that a leader remembers. */
import t from 'tap';
import { listAll, loadState } from '../../control-plane/load-state.ts';
import { ControlRig } from '../helpers/control-rig.ts';
import { MemoryMetaStore } from '../helpers/memory-meta-store.ts';

t.test('an empty store', async (t) => {
  const { stored, head, headRevision } = await loadState(new MemoryMetaStore());
  t.same(Object.values(stored).flat(), []);
  t.same([head.sequence, headRevision], [0, 0]);
});

t.test('all pages of a prefix', async (t) => {
  const store = new MemoryMetaStore();
  for (let n = 0; n < 2500; n += 1) await store.put(`/x/${String(n).padStart(5, '0')}`, '1');
  await store.put('/y', '1');
  const { entries } = await listAll(store, '/x/');
  t.equal(entries.length, 2500);
  t.equal(new Set(entries.map(({ key }) => key)).size, 2500);
});

t.test('what was written is read', async (t) => {
  const rig = await ControlRig.start(t);
  const client = await rig.client();
  await rig.provider('p1');
  await rig.lease(client);
  await rig.request(client);
  const { stored, head } = await loadState(rig.store);
  const { members, providers, leases, tokenKeys, requests, usage } = stored;
  t.same(
    [members, providers, leases, tokenKeys, requests, usage].map(({ length }) => length),
    [2, 1, 2, 1, 2, 1],
  );
  t.equal(head.sequence, (await rig.audit()).length);
});

t.test('a store that changes while it is read is read again, and at last refused', async (t) => {
  const store = new MemoryMetaStore();
  let changes = 1;
  store.fate = () => {
    if (changes > 0) {
      changes -= 1;
      store.entries.set('/memcloud/v1/audit-head', { value: '{}', revision: 1000 + changes });
      if (changes === 0) store.entries.delete('/memcloud/v1/audit-head');
    }
    return 'done';
  };
  t.equal((await loadState(store)).headRevision, 0);
  changes = 1e9;
  await t.rejects(loadState(store), { code: 'ERR_CONTROL_STORE' });
});

t.test('a damaged record is an error that says which', async (t) => {
  const store = new MemoryMetaStore();
  await store.put('/memcloud/v1/lease/x', '{"leaseId":7}');
  await t.rejects(loadState(store), { code: 'ERR_CONTROL_STORE', message: /record of a lease/ });
});
