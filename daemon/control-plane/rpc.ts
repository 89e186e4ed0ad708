/** The RPC methods of a control node: what admins on its machine ask, and who waits at its door. */
import { MemcloudError } from '../../common/errors.ts';
import { fingerprintOf } from '../../common/fingerprint.ts';
import { CONTROL_NODE_COUNT_MAX } from '../../common/invite-token.ts';
import type { NodeId } from '../../common/ports.ts';
import type { ControlStatus } from '../../common/rpc-control.ts';
import type { GiveBackInfo } from '../../common/rpc-nodes.ts';
import type { GarbageCollectionInfo } from '../../common/rpc-process.ts';
import type { PeerInfo, StatusInfo } from '../../common/rpc-schema.ts';
import { VERSION } from '../../common/version.ts';
import { describePeers } from '../peers/rpc.ts';
import { Events, isEventTopic, type EventLook, type EventLooks } from '../rpc/events.ts';
import type { RpcHandlers } from '../rpc-server.ts';
import { createInvite, trustHandlers, trustHealth, type TrustContext } from '../trust/rpc.ts';
import type { MemberDoor } from './members.ts';
import { notAMemnode } from './refused.ts';

/** What the methods work on. */
export interface ControlRpcContext extends Omit<TrustContext, 'listPeers'> {
  /** What it is called. */
  readonly name: string;
  /** Where members reach it, as an operator said; undefined: at the addresses of this machine. */
  readonly advertise: string | undefined;
  /** Who becomes a member by it. */
  readonly door: MemberDoor;
  /** One call of `control-plane/schema.ts`, checked, as an admin. @throws MemcloudError */
  readonly call: (call: string, params: unknown) => Promise<unknown>;
  /** Sentences about what is not well with the control plane. */
  readonly health: () => string[];
  /** Pauses of this thread. */
  readonly garbageCollection: () => GarbageCollectionInfo;
  /** Asks the process to end, after the reply. */
  readonly requestShutdown: () => void;
}

/** Of a node that lends nothing. */
const NOTHING_GIVEN_BACK: GiveBackInfo = {
  ...{ level: 'calm', draining: false, accepting: false, stallShare: 0 },
  ...{ availableBytes: 0, reserveBytes: 0, shortageBytes: 0 },
  ...{ askedCount: 0, pressureCount: 0, givenBackCount: 0, givenBackBytes: 0 },
  ...{ endedCount: 0, endedBytes: 0, firstBackMs: null },
};
const NO_USAGE = { offeredBytes: 0, usedBytes: 0, residentBytes: 0, leaseCount: 0 };

function listPeers({ peers }: ControlRpcContext): PeerInfo[] {
  return describePeers({
    peers,
    allowances: { of: () => 0, ofAddress: () => 0 },
    provider: { usedBy: () => 0, status: () => ({ leases: [] }) },
    leasedFrom: () => 0,
  });
}

function status(context: ControlRpcContext): StatusInfo {
  const { nodeId, name, peerAddress } = context;
  return {
    daemon: 'control-node',
    ...{ version: VERSION, nodeId, name, peerAddress, fingerprint: fingerprintOf(nodeId) },
    pid: process.pid,
    uptimeS: Math.round(process.uptime()),
    provider: {
      usage: NO_USAGE,
      directory: '',
      swapExposure: 'none',
      giveBack: NOTHING_GIVEN_BACK,
      managed: [],
    },
    ...{ hostId: '', zone: '', peers: listPeers(context) },
    consentPending: context.consent.list().length,
    ...{ volumes: [], directDevices: [], directExports: [], mounts: [] },
    health: [...context.health(), ...trustHealth(context)],
    kit: [],
    garbageCollection: context.garbageCollection(),
    handover: null,
    managed: null,
  };
}

/** The other control nodes, as a token names them. @throws MemcloudError `ERR_CONTROL_NOT_LEADER` */
async function otherControlNodes({
  call,
  nodeId,
}: ControlRpcContext): Promise<{ nodeId: NodeId; address: string }[]> {
  // Only the leader answers it, and only the leader can write who joins.
  const { controlNodes } = (await call('admin.status', {})) as ControlStatus;
  return controlNodes
    .filter((each) => each.nodeId !== nodeId && each.address !== '')
    .map((each) => ({ nodeId: each.nodeId, address: each.address }))
    .slice(0, CONTROL_NODE_COUNT_MAX);
}

function rowsBy<T extends object>(rows: readonly T[], name: (row: T) => string): EventLook {
  return new Map(rows.map((row) => [name(row), row]));
}

/** What can be seen of a control node; the events of the control plane itself are `admin.watch`. */
function looks(context: ControlRpcContext, all: () => RpcHandlers): EventLooks {
  const nothing = (): EventLook => new Map();
  const own = { signal: new AbortController().signal } as Parameters<RpcHandlers['trust.list']>[1];
  return {
    peer: () =>
      rowsBy(
        listPeers(context).map(({ nodeId, name, address, state, reason }) => {
          return { nodeId, name, address, state, reason };
        }),
        ({ nodeId, address }) => nodeId || address,
      ),
    consent: () =>
      rowsBy(
        context.consent.list().map(({ id, nodeId, name, address }) => {
          return { request: id, nodeId, name, address };
        }),
        ({ request }) => request,
      ),
    trust: async () => rowsBy(await all()['trust.list']({}, own), ({ nodeId }) => nodeId),
    ...{ volume: nothing, mount: nothing, lease: nothing, object: nothing, config: nothing },
  };
}

/** Of an answer to a request for consent, what an operator without a role in mind may say. */
function requireDeny(answer: string): void {
  if (answer === 'deny') return;
  throw new MemcloudError(
    'ERR_USAGE',
    'a control node lets members in, and a member has a role: memcloud control-plane consent ' +
      'allow REQUEST --role client',
  );
}

/** The handlers of a control node. */
export function controlHandlers(context: ControlRpcContext): RpcHandlers {
  const { door } = context;
  const trust = trustHandlers({ ...context, listPeers: () => listPeers(context) }, () => undefined);
  const events = new Events(looks(context, () => handlers));
  const handlers: RpcHandlers = {
    ...notAMemnode(),
    status: () => status(context),
    'peer.list': () => listPeers(context),
    'consent.list': trust['consent.list'],
    'consent.answer': (params, call) => {
      requireDeny(params.answer);
      return trust['consent.answer'](params, call);
    },
    'trust.list': trust['trust.list'],
    'invite.list': trust['invite.list'],
    'invite.revoke': trust['invite.revoke'],
    'control.call': ({ call, params }) => context.call(call, params ?? {}),
    'control.invite': async ({ ttlMs, addresses, roles, quotaBytes, quotaLeases }) => {
      const others = await otherControlNodes(context);
      const { advertise } = context;
      const own = advertise === undefined ? {} : { addresses: [advertise] };
      const where = addresses === undefined ? own : { addresses };
      const made = createInvite(context, { ...where, ttlMs }, others);
      door.promise(made.invite, { roles, quotaBytes, quotaLeases });
      return { ...made, roles };
    },
    'control.consent': ({ request, ...grant }) => door.consentTo(request, grant),
    'events.subscribe': async ({ topics = ['peer', 'consent', 'trust'] }, { connection }) => {
      const wanted = topics.filter(isEventTopic);
      if (wanted.length < topics.length) {
        throw new MemcloudError('ERR_USAGE', 'topics: expected some of peer, consent, trust');
      }
      await events.subscribe(connection, new Set(wanted));
      return null;
    },
    shutdown: () => {
      setImmediate(context.requestShutdown);
      return null;
    },
  };
  return handlers;
}
