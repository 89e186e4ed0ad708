/** Who may do what. */
import t from 'tap';
import { fingerprintOf, nodeIdOf } from '../../common/fingerprint.ts';
import {
  bindMember,
  findMember,
  findProvider,
  putMember,
  removeMember,
} from '../../control-plane/member-machine.ts';
import { CLIENT, LedgerRig, nodeId } from '../helpers/ledger-rig.ts';

const KEY = 'cd'.repeat(32);
const NODE = nodeIdOf(Buffer.from(KEY, 'hex'));
const WORDS = fingerprintOf(NODE);

t.test('a fingerprint becomes a node when that comes, once', async (t) => {
  const rig = new LedgerRig();
  const { state } = rig;
  rig.take(
    putMember(state, 0, { key: WORDS.toUpperCase().replaceAll('-', ' '), roles: ['admin'] }),
  );
  t.ok(state.hasRole(NODE, 'admin'), 'also before');
  rig.note(bindMember(state, NODE, KEY, 'laptop'));
  rig.note(bindMember(state, NODE, KEY, 'other'));
  t.match(state.members.get(NODE), {
    nodeId: NODE,
    publicKey: KEY,
    name: 'laptop',
    pattern: WORDS.replaceAll('-', ' '),
  });
  t.notOk(state.members.has(WORDS));
  for (const text of [NODE, KEY, WORDS, 'laptop'])
    t.equal(findMember(state, text)?.nodeId, NODE, text);
  rig.note(bindMember(state, nodeId('x'), KEY, 'x'));
  t.equal(rig.lines.filter((line) => line === 'member.bound').length, 1);
});

t.test('what is not said stays as it is', async (t) => {
  const rig = new LedgerRig();
  const put = (changes: object): unknown =>
    rig.take(putMember(rig.state, 0, { key: NODE, ...changes }));
  t.match(put({}), { roles: ['client'], quotaBytes: null, quotaLeases: null });
  put({ quotaBytes: 5, quotaLeases: 6, name: 'n' });
  t.match(put({ roles: ['client', 'client', 'admin'] }), {
    roles: ['client', 'admin'],
    quotaBytes: 5,
  });
  t.match(put({ quotaBytes: null }), { quotaBytes: null, quotaLeases: 6, name: 'n' });
});

t.test('who is no client any more loses its leases, a provider gets nothing more', async (t) => {
  const rig = new LedgerRig();
  rig.provider('p');
  rig.active();
  rig.request();
  rig.take(putMember(rig.state, rig.nowMs, { key: CLIENT, roles: ['admin'] }));
  t.same(
    [...rig.state.leases.values()].map(({ record }) => record.state),
    ['ending'],
  );
  rig.take(removeMember(rig.state, rig.nowMs, 'p'));
  t.equal(rig.state.providers.get(nodeId('p'))!.isUp, false, 'it is known while it has leases');
  t.throws(() => rig.take(removeMember(rig.state, rig.nowMs, 'p')), { code: 'ERR_PEER_UNKNOWN' });
  const other = new LedgerRig();
  other.provider('q');
  other.take(removeMember(other.state, 0, 'q'));
  t.throws(() => findProvider(other.state, 'q'), { code: 'ERR_PEER_UNKNOWN' });
});

t.test('keys that are none', async (t) => {
  const rig = new LedgerRig();
  for (const key of ['', 'nobody', 'zoo-zoo', '__proto__', 'g'.repeat(32)]) {
    t.throws(() => putMember(rig.state, 0, { key }), { code: 'ERR_USAGE' }, key);
  }
  t.equal(rig.state.members.size, 1);
});
