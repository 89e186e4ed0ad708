/** What a control node answers on its socket (daemon/control-plane/rpc.ts). */
import t, { type Test } from 'tap';
import { monotonicClock } from '../../../common/clock.ts';
import { MemcloudError } from '../../../common/errors.ts';
import { decodeInviteToken } from '../../../common/invite-token.ts';
import { silentLogger } from '../../../common/log.ts';
import { MemberDoor, type MemberGrant } from '../../../daemon/control-plane/members.ts';
import { controlHandlers, type ControlRpcContext } from '../../../daemon/control-plane/rpc.ts';
import type { RpcCall } from '../../../daemon/rpc/call.ts';
import { Invites } from '../../../peer/invites.ts';
import { Revocations } from '../../../peer/revocations.ts';
import { testNode } from '../../helpers/peer-node.ts';

const OTHERS = [
  { nodeId: 'aa'.repeat(16), name: 'two', leads: false, address: '10.0.0.2:7071' },
  { nodeId: 'bb'.repeat(16), name: 'lost', leads: false, address: '' },
];
const CALL: RpcCall = {
  signal: new AbortController().signal,
  connection: { id: 1, onClose: () => () => undefined, push: () => true, onRoom: () => undefined },
};

function rig(t: Test, more: Partial<ControlRpcContext> = {}) {
  const { identity, trust, consent, peers } = testNode(t, 'control', { autoTrust: false });
  const { nodeId } = identity;
  const invites = new Invites(monotonicClock);
  const promised = new Map<string, MemberGrant>();
  class Door extends MemberDoor {
    override promise(invite: string, grant: MemberGrant): void {
      promised.set(invite, grant);
    }
  }
  const put = (): never => {
    throw new MemcloudError('ERR_CONTROL_STORE', 'no store in this test');
  };
  const calls: unknown[] = [];
  let ended = 0;
  const handlers = controlHandlers({
    ...{ nodeId, name: 'control', peerAddress: '127.0.0.1:7071', advertise: undefined },
    ...{ peers, trust, consent, invites },
    revocations: new Revocations({ trust, logger: silentLogger }),
    door: new Door({ trust, consent, put, logger: silentLogger }),
    call: async (call, params) => {
      calls.push([call, params]);
      const own = { nodeId, name: 'control', leads: true, address: '10.0.0.1:7071' };
      return { controlNodes: [own, ...OTHERS] };
    },
    health: () => ['nobody leads'],
    garbageCollection: () => ({
      count: 0,
      majorCount: 0,
      totalUs: 0,
      longestUs: 0,
      oldHeapBytes: 0,
    }),
    requestShutdown: () => (ended += 1),
    ...more,
  });
  return { handlers, nodeId, promised, calls, endedCount: () => ended };
}

t.test('its status is that of a daemon that lends nothing', async (t) => {
  const { handlers, nodeId } = rig(t);
  const status = await handlers.status({}, CALL);
  t.match(status, {
    daemon: 'control-node',
    nodeId,
    name: 'control',
    peers: [],
    volumes: [],
    health: ['nobody leads'],
  });
  t.equal(status.provider.usage.offeredBytes, 0);
  t.same(await handlers['peer.list']({}, CALL), []);
});

t.test('an invitation names the other control nodes that can be reached', async (t) => {
  const { handlers, nodeId, promised } = rig(t);
  const params = { roles: ['client' as const], quotaBytes: 4096 };
  const made = await handlers['control.invite'](params, CALL);
  t.match(decodeInviteToken(made.token), {
    nodeId,
    addresses: ['127.0.0.1:7071'],
    controlNodes: [{ nodeId: 'aa'.repeat(16), address: '10.0.0.2:7071' }],
  });
  t.match(promised.get(made.invite), params, 'what it is good for is remembered');
  t.match(await handlers['invite.list']({}, CALL), [{ invite: made.invite }]);
  const elsewhere = rig(t, { advertise: 'c.example.org:7071' });
  const other = await elsewhere.handlers['control.invite'](params, CALL);
  t.same(other.addresses, ['c.example.org:7071'], 'as its operator says');
  const said = { ...params, addresses: ['10.9.9.9:1'] };
  t.same((await elsewhere.handlers['control.invite'](said, CALL)).addresses, ['10.9.9.9:1']);
  const call = (): never => {
    throw new MemcloudError('ERR_CONTROL_NOT_LEADER', 'two leads');
  };
  const follower = rig(t, { call });
  await t.rejects(async () => follower.handlers['control.invite'](params, CALL), {
    code: 'ERR_CONTROL_NOT_LEADER',
  });
  t.equal(follower.promised.size, 0);
});

t.test('calls of the control plane go through; consent wants a role', async (t) => {
  const { handlers, calls, endedCount } = rig(t);
  await handlers['control.call']({ call: 'admin.status' }, CALL);
  await handlers['control.call']({ call: 'admin.audit', params: { after: 3 } }, CALL);
  t.same(calls, [
    ['admin.status', {}],
    ['admin.audit', { after: 3 }],
  ]);
  const answer = (word: 'trust' | 'allow' | 'deny') => () =>
    handlers['consent.answer']({ request: 'x', answer: word }, CALL);
  t.throws(answer('trust'), { code: 'ERR_USAGE', message: /--role/ });
  t.throws(answer('allow'), { code: 'ERR_USAGE' });
  t.throws(answer('deny'), { code: 'ERR_PEER_UNKNOWN' });
  const grant = { roles: ['admin' as const] };
  await t.rejects(async () => handlers['control.consent']({ request: 'x', ...grant }, CALL), {
    code: 'ERR_PEER_UNKNOWN',
  });
  await t.rejects(async () => handlers['events.subscribe']({ topics: ['weather'] }, CALL), {
    code: 'ERR_USAGE',
  });
  t.throws(() => handlers['volume.list']({}, CALL), { code: 'ERR_UNSUPPORTED' });
  t.equal(handlers.shutdown({}, CALL), null);
  t.equal(endedCount(), 0, 'after the reply');
  await new Promise((resolve) => setImmediate(resolve));
  t.equal(endedCount(), 1);
});
