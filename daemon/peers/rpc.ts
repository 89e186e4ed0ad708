/** What the methods `peer.*` do: who is around, what each may use here, and how long it takes. */
import { MemcloudError } from '../../common/errors.ts';
import { fingerprintOf } from '../../common/fingerprint.ts';
import { holderParts } from '../../common/holder.ts';
import type { NodeId } from '../../common/ports.ts';
import type { PeerPing } from '../../common/rpc-nodes.ts';
import type {
  DirectDeviceInfo,
  DirectExportInfo,
  PeerInfo,
  RpcParams,
} from '../../common/rpc-schema.ts';
import type { Allowances } from '../../peer/allowances.ts';
import type { PeerInfo as PeerRow } from '../../peer/peer-info.ts';
import type { Peers } from '../../peer/peers.ts';
import type { Quarantines } from '../../peer/quarantines.ts';
import type { RamProvider } from '../../provider/service.ts';
import { directUse } from '../direct/peer-use.ts';
import { resultWithin } from '../handover/within.ts';
import type { RpcHandlers } from '../rpc-server.ts';
import { pinOf } from '../trust/rpc.ts';
import { pathTo } from './path.ts';
import { PING_COUNT_DEFAULT, pingSource } from './ping.ts';

/** How long `peer.connect` waits for the dial to come to something. */
const CONNECT_WAIT_MS = 10_000;

/** What the methods work on. */
export interface PeerContext {
  /** The peers. */
  readonly peers: Peers;
  /** What each may use here. */
  readonly allowances: Allowances;
  /** Whose pages are not believed. */
  readonly quarantines: Quarantines;
  /** What is lent. */
  readonly provider: RamProvider;
  /** The WireGuard interface by which packets leave for an IP address; undefined when it is another one. */
  readonly wireGuardTo: (host: string) => string | undefined;
  /** What the volumes of this node have leased from a peer, bytes: for peers that do not tell. */
  readonly leasedFrom: (nodeId: NodeId) => number;
  /** Direct devices of this machine. */
  readonly directDevices: () => readonly DirectDeviceInfo[];
  /** What other machines have here directly. */
  readonly directExports: () => readonly DirectExportInfo[];
}

/** What the description of a peer needs; a control node, which lends nothing, has no more. */
interface DescribeContext extends Pick<PeerContext, 'leasedFrom'> {
  readonly peers: Pick<Peers, 'peers'>;
  readonly allowances: Pick<Allowances, 'of' | 'ofAddress'>;
  readonly provider: Pick<RamProvider, 'usedBy'> & {
    status(): { readonly leases: readonly { readonly holder: string }[] };
  };
}

/** Every peer, as `peer ls` shows it. */
export function describePeers(context: DescribeContext): PeerInfo[] {
  const leases = new Map<NodeId, number>();
  for (const { holder } of context.provider.status().leases) {
    const { nodeId } = holderParts(holder);
    leases.set(nodeId, (leases.get(nodeId) ?? 0) + 1);
  }
  return context.peers.peers().map((peer) => describePeer(context, peer, leases));
}

function describePeer(
  { allowances, provider, leasedFrom }: DescribeContext,
  peer: PeerRow,
  leases: ReadonlyMap<NodeId, number>,
): PeerInfo {
  const { nodeId, name, address, state, usage, roundTripMs, nextDialMs, error } = peer;
  const { hostId, zone, accepting, quarantineReason, isGuest } = peer;
  const allowedBytes = nodeId === undefined ? allowances.ofAddress(address) : allowances.of(nodeId);
  return {
    nodeId: nodeId ?? '',
    fingerprint: nodeId === undefined ? '' : fingerprintOf(nodeId),
    allowedBytes: isGuest ? 0 : allowedBytes,
    borrowedBytes: usage?.heldBytes ?? (nodeId === undefined ? 0 : leasedFrom(nodeId)),
    name,
    address,
    state: state === 'waiting' || state === 'stopped' ? 'down' : state,
    reason: state === 'up' ? '' : (error?.message ?? ''),
    nextTryInMs: nextDialMs === undefined ? null : Math.round(nextDialMs),
    usage: usage ?? null,
    rttUs: roundTripMs > 0 ? Math.round(roundTripMs * 1000) : null,
    ...{ hostId, zone, accepting, quarantine: quarantineReason ?? '', guest: isGuest },
    lentBytes: nodeId === undefined ? 0 : provider.usedBy(nodeId),
    lentLeases: leases.get(nodeId ?? '') ?? 0,
  };
}

/** Dials an address from now on; what the node there may use here counts before it is told its room. */
async function connect(
  context: PeerContext,
  { address, allowedBytes, fingerprint }: RpcParams<'peer.connect'>,
): Promise<PeerInfo> {
  const { allowances, peers } = context;
  const pin = pinOf(fingerprint);
  if (allowedBytes !== undefined) allowances.expect(address, allowedBytes);
  const dialer = peers.connect(address, pin);
  if (dialer.state === 'up' && dialer.nodeId !== undefined) {
    allowances.bind(dialer.address, dialer.nodeId);
  }
  await resultWithin(CONNECT_WAIT_MS, dialer.outcome());
  if (dialer.state !== 'up' && dialer.state !== 'pending' && dialer.lastError !== undefined) {
    const { code, message } = dialer.lastError;
    const hint =
      code === 'ERR_PEER_UNREACHABLE' ? '; memnode keeps trying, see memcloud peer ls' : '';
    throw new MemcloudError(code, `${message}${hint}`, { cause: dialer.lastError });
  }
  const found = describePeers(context).find((peer) => peer.address === dialer.address);
  if (found === undefined) {
    throw new MemcloudError('ERR_PEER_UNREACHABLE', `nobody answers at ${address} yet`);
  }
  return found;
}

function update(context: PeerContext, { peer, allowedBytes }: RpcParams<'peer.update'>): PeerInfo {
  const { nodeId } = context.peers.store(peer);
  context.allowances.set(nodeId, allowedBytes);
  const found = describePeers(context).find((each) => each.nodeId === nodeId);
  if (found === undefined) throw new MemcloudError('ERR_PEER_UNKNOWN', 'the peer is gone');
  return found;
}

async function ping(
  { peers, directDevices, wireGuardTo }: PeerContext,
  { peer, count }: RpcParams<'peer.ping'>,
): Promise<PeerPing> {
  const store = peers.store(peer);
  const { session } = store;
  if (session === undefined) {
    throw new MemcloudError('ERR_PEER_UNREACHABLE', `node "${store.nodeName}" is not connected`);
  }
  const { address } = session;
  const path = pathTo({
    ...{ nodeId: store.nodeId, address, wireGuard: wireGuardTo(session.host) },
    devices: directDevices(),
  });
  const times = await pingSource(store, count ?? PING_COUNT_DEFAULT);
  return { nodeId: store.nodeId, name: store.nodeName, address, path, ...times };
}

function disconnect(context: PeerContext, { peer, force }: RpcParams<'peer.disconnect'>): null {
  const { nodeId } = context.peers.store(peer);
  const use =
    force === true
      ? undefined
      : directUse(nodeId, context.directDevices(), context.directExports());
  if (use !== undefined) {
    throw new MemcloudError('ERR_SWAP_UNSAFE', `${use}; or, knowing that, --force`);
  }
  context.peers.disconnect(peer);
  return null;
}

/** The handlers of `peer.*`. */
export function peerHandlers(
  context: PeerContext,
): Pick<
  RpcHandlers,
  'peer.list' | 'peer.connect' | 'peer.update' | 'peer.ping' | 'peer.disconnect' | 'peer.pardon'
> {
  return {
    'peer.list': () => describePeers(context),
    'peer.connect': (params) => connect(context, params),
    'peer.update': (params) => update(context, params),
    'peer.ping': (params) => ping(context, params),
    'peer.disconnect': (params) => disconnect(context, params),
    'peer.pardon': ({ peer }) => {
      context.quarantines.pardon(peer);
      return null;
    },
  };
}
