/**
 * What the RPC methods do: the operator's view of a daemon. Everything here is control path; no page
 * passes.
 */
import { MemcloudError } from '../common/errors.ts';
import { holderParts } from '../common/holder.ts';
import { kitStatus } from '../common/kit-status.ts';
import type { NodeId } from '../common/ports.ts';
import { checkSocketPath } from '../common/paths.ts';
import type {
  ConsentInfo,
  DirectDeviceInfo,
  DirectExportInfo,
  HandoverInfo,
  MountInfo,
  PeerInfo,
  RpcParams,
  StatusInfo,
} from '../common/rpc-schema.ts';
import { hostCount, takesSlabs } from '../common/slab-sources.ts';
import { formatSize, roundUpToPages } from '../common/units.ts';
import { VERSION } from '../common/version.ts';
import type { ConsentAnswer, ConsentQueue } from '../peer/consent.ts';
import type { PeerInfo as PeerRow } from '../peer/peer-info.ts';
import type { Peers } from '../peer/peers.ts';
import type { Quarantines } from '../peer/quarantines.ts';
import type { TrustStore } from '../peer/trust.ts';
import type { RamProvider } from '../provider/service.ts';
import type { DirectDevices } from './direct/devices.ts';
import { directUse } from './direct/peer-use.ts';
import type { Drain } from './drain.ts';
import type { GarbageCollectionWatch } from './garbage-collection.ts';
import type { LiveConfig } from './live-config.ts';
import { mountHealth } from './mounts/describe.ts';
import type { Mounts } from './mounts/mounts.ts';
import { createMount, type MountContext } from './mounts/rpc.ts';
import type { RpcHandlers } from './rpc-server.ts';
import { defaultCopies, ringSize } from './volume-defaults.ts';
import type { ServeRequest, VolumeRequest, Volumes } from './volumes.ts';

/** How long `peer.connect` waits for the dial to come to something. */
const CONNECT_WAIT_MS = 10_000;

/** The parts of a daemon that methods work on. */
export interface RpcContext {
  /** Who it is. */
  readonly nodeId: NodeId;
  /** What it is called. */
  readonly name: string;
  /** Where peers reach it. */
  readonly peerAddress: string;
  /** The machine that it runs on; empty when it is not known. */
  readonly hostId: string;
  /** Its zone; empty for none. */
  readonly zone: string;
  /** Its peers. */
  readonly peers: Peers;
  /** Whose pages it does not believe. */
  readonly quarantines: Quarantines;
  /** Empties providers. */
  readonly drain: Drain;
  /** Strangers that wait. */
  readonly consent: ConsentQueue;
  /** Whom it trusts. */
  readonly trust: TrustStore;
  /** What it lends. */
  readonly provider: RamProvider;
  /** Its volumes. */
  readonly volumes: Volumes;
  /** Its mounts. */
  readonly mounts: Mounts;
  /** Room of the providers that are up. */
  readonly rooms: MountContext['rooms'];
  /** Its direct devices. */
  readonly direct: DirectDevices;
  /** What it exports directly. */
  readonly directExports: () => DirectExportInfo[];
  /** By what it runs. */
  readonly config: LiveConfig;
  /** Pauses of this thread. */
  readonly garbageCollection: GarbageCollectionWatch;
  /** How it took over from another memnode. */
  readonly handover: () => HandoverInfo | null;
  /** Hands over to the process that listens on a path. @throws MemcloudError `ERR_HANDOVER` */
  readonly handOver: (request: RpcParams<'daemon.handover'>) => void;
  /** Starts a process that replaces this one. @returns its id. @throws MemcloudError `ERR_HANDOVER` */
  readonly restart: (force: boolean) => number;
  /** Asks the process to end, after the reply. */
  readonly requestShutdown: () => void;
}

const ANSWERS: Readonly<Record<'allow' | 'trust' | 'deny', ConsentAnswer>> = {
  allow: 'once',
  trust: 'trust',
  deny: 'deny',
};

function describePeers(context: RpcContext): PeerInfo[] {
  const lent = new Map<NodeId, Lent>();
  for (const { holder, chargedBytes } of context.provider.status().leases) {
    const { nodeId } = holderParts(holder);
    const { lentBytes, lentLeases } = lent.get(nodeId) ?? NOTHING_LENT;
    lent.set(nodeId, { lentBytes: lentBytes + chargedBytes, lentLeases: lentLeases + 1 });
  }
  return context.peers
    .peers()
    .map((peer) => describePeer(peer, lent.get(peer.nodeId ?? '') ?? NOTHING_LENT));
}

type Lent = Pick<PeerInfo, 'lentBytes' | 'lentLeases'>;

const NOTHING_LENT: Lent = { lentBytes: 0, lentLeases: 0 };

function describePeer(peer: PeerRow, lent: Lent): PeerInfo {
  const { nodeId, name, address, state, usage, roundTripMs, error } = peer;
  const { hostId, zone, accepting, quarantineReason } = peer;
  return {
    nodeId: nodeId ?? '',
    name,
    address,
    state: state === 'waiting' || state === 'stopped' ? 'down' : state,
    reason: state === 'up' ? '' : (error?.message ?? ''),
    usage: usage ?? null,
    rttUs: roundTripMs > 0 ? Math.round(roundTripMs * 1000) : null,
    ...{ hostId, zone, accepting, quarantine: quarantineReason ?? '' },
    ...lent,
  };
}

function listConsent(consent: ConsentQueue): ConsentInfo[] {
  return consent.list().map(({ id, nodeId, name, address, dialled, expiresInMs }) => ({
    request: id,
    nodeId,
    name,
    address,
    direction: dialled ? 'outbound' : 'inbound',
    expiresInS: Math.round(expiresInMs / 1000),
  }));
}

function healthOf(
  context: RpcContext,
  devices: readonly DirectDeviceInfo[],
  mounts: readonly MountInfo[],
): string[] {
  const sentences: string[] = mountHealth(mounts);
  for (const { device, health } of devices) {
    if (health === 'lost') sentences.push(`direct device ${device} has lost its pages`);
    if (health === 'degraded')
      sentences.push(`direct device ${device} has one copy left: memcloud swap move`);
  }
  for (const { name, health } of context.volumes.list()) {
    if (health === 'lost') sentences.push(`volume ${name} has lost pages`);
    if (health === 'degraded') sentences.push(`volume ${name} has fewer copies than promised`);
  }
  for (const { name, nodeId, reason } of context.quarantines.list()) {
    sentences.push(`peer ${name || nodeId} is in quarantine: ${reason}`);
  }
  const { level, shortageBytes, draining } = context.provider.status().giveBack;
  if (draining) sentences.push('this node is being drained: memcloud undrain ends that');
  if (level !== 'calm') {
    const missing = formatSize(shortageBytes);
    sentences.push(`memory pressure (${level}): ${missing} missing, lent RAM is asked back`);
  }
  const waiting = context.consent.list().length;
  if (waiting > 0) sentences.push(`${waiting} machines wait for consent: memcloud consent ls`);
  return sentences;
}

async function status(context: RpcContext): Promise<StatusInfo> {
  const mounts = await context.mounts.list();
  const directDevices = context.direct.list();
  const { usage, directory, swap, giveBack } = context.provider.status();
  return {
    version: VERSION,
    nodeId: context.nodeId,
    name: context.name,
    pid: process.pid,
    uptimeS: Math.round(process.uptime()),
    peerAddress: context.peerAddress,
    provider: { usage, directory, swapExposure: swap, giveBack },
    hostId: context.hostId,
    zone: context.zone,
    peers: describePeers(context),
    consentPending: context.consent.list().length,
    volumes: context.volumes.list(),
    directDevices,
    directExports: context.directExports(),
    mounts,
    health: healthOf(context, directDevices, mounts),
    kit: kitStatus(process.pid),
    garbageCollection: context.garbageCollection.info,
    handover: context.handover(),
  };
}

async function connect(context: RpcContext, address: string): Promise<PeerInfo> {
  const dialer = context.peers.connect(address);
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<void>((resolve) => (timer = setTimeout(resolve, CONNECT_WAIT_MS)));
  await Promise.race([dialer.outcome(), timeout]);
  clearTimeout(timer);
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

/** Machines that can lend to a volume. */
function lenderCount(context: RpcContext, providers: readonly string[] | undefined): number {
  const up = hostCount(context.peers.list().filter(takesSlabs));
  return providers === undefined ? up : Math.min(providers.length, up);
}

function volumeRequest(context: RpcContext, params: RpcParams<'volume.create'>): VolumeRequest {
  const { name, sizeBytes, copies, providers, ringBytes, spill, overcommit } = params;
  return {
    name,
    sizeBytes: roundUpToPages(sizeBytes),
    copies: copies ?? defaultCopies(lenderCount(context, providers)),
    ringSizeBytes: ringSize(ringBytes, `volume ${name}`),
    providers,
    spill,
    overcommit: overcommit ?? false,
  };
}

function serveRequest(params: RpcParams<'nbd.serve'>): ServeRequest {
  const { unixPath, tcpAddress, tls, tlsCertificates, tlsKeys } = params;
  if ((unixPath === undefined) === (tcpAddress === undefined)) {
    throw new MemcloudError('ERR_USAGE', 'nbd.serve: expected one of unixPath, tcpAddress');
  }
  if (tls !== undefined && (tlsCertificates === undefined) === (tlsKeys === undefined)) {
    throw new MemcloudError('ERR_USAGE', 'nbd.serve: TLS needs one of tlsCertificates, tlsKeys');
  }
  return {
    address:
      unixPath === undefined
        ? { tcpAddress: tcpAddress ?? '' }
        : { unixPath: checkSocketPath(unixPath) },
    readOnly: params.readOnly ?? false,
    tls: tls && {
      policy: tls,
      certificates: tlsCertificates,
      verifyPeer: params.tlsVerifyPeer ?? false,
      keys: tlsKeys,
    },
  };
}

/** The handlers of a daemon. */
export function rpcHandlers(context: RpcContext): RpcHandlers {
  const { peers, consent, volumes, direct, mounts } = context;
  const isVolume = (name: string): boolean => volumes.has(name);
  return {
    status: () => status(context),
    'peer.list': () => describePeers(context),
    'peer.connect': ({ address }) => connect(context, address),
    'peer.disconnect': ({ peer, force = false }) => {
      const { nodeId } = peers.store(peer);
      const use = force ? undefined : directUse(nodeId, direct.list(), context.directExports());
      if (use !== undefined) {
        throw new MemcloudError('ERR_SWAP_UNSAFE', `${use}; or, knowing that, --force`);
      }
      peers.disconnect(peer);
      return null;
    },
    'peer.pardon': ({ peer }) => {
      context.quarantines.pardon(peer);
      return null;
    },
    'drain.start': ({ node, force }) => context.drain.start(node, force ?? false),
    'drain.status': ({ node }) => context.drain.status(node),
    'drain.stop': ({ node }) => context.drain.stop(node),
    'consent.list': () => listConsent(consent),
    'consent.answer': ({ request, answer }) => {
      consent.answer(request, ANSWERS[answer]);
      return null;
    },
    'trust.list': () =>
      context.trust.list().map(({ nodeId, name, decision, decidedAtMs }) => ({
        nodeId,
        name,
        decision,
        decidedAt: new Date(decidedAtMs).toISOString(),
      })),
    'trust.remove': ({ peer }) => {
      context.trust.remove(peer);
      return null;
    },
    'volume.create': (params) => {
      if (mounts.has(params.name)) {
        const text = `volume ${params.name} is that of a mount; choose another name`;
        throw new MemcloudError('ERR_VOLUME_EXISTS', text);
      }
      return volumes.create(volumeRequest(context, params));
    },
    'volume.list': () => volumes.list(),
    'volume.inspect': ({ name }) => volumes.inspect(name),
    'volume.remove': async ({ name, force }) => {
      if (mounts.has(name)) await mounts.drop(name);
      else await volumes.remove(name, force ?? false);
      return null;
    },
    'nbd.serve': async (params) => ({
      uri: await volumes.serve(params.name, serveRequest(params)),
    }),
    'nbd.stop': async ({ name }) => {
      await volumes.stopServing(name);
      return null;
    },
    'nbd.attach': ({ name, device, connections, via, timeoutS }) =>
      volumes.attach(name, {
        device,
        connections: connections ?? 1,
        via: via ?? 'netlink',
        timeoutS: timeoutS ?? 0,
      }),
    'nbd.detach': async ({ device }) => {
      await volumes.detach(device);
      return null;
    },
    'nbd.list': () => volumes.attachments(),
    'direct.check': ({ insecurePlain = false }) => direct.check(insecurePlain),
    'direct.attach': ({ sizeBytes, copies, providers, avoid, insecurePlain = false }) =>
      direct.attach({ sizeBytes, copies, providers, avoid, insecurePlain }),
    'direct.detach': async ({ device }) => {
      await direct.detach(device);
      return null;
    },
    'direct.list': () => direct.list(),
    'mount.create': (params) => createMount(params, { mounts, rooms: context.rooms, isVolume }),
    'mount.remove': async ({ directory, lazy = false, startingOnly = false }) => {
      await mounts.remove(directory, { lazy, startingOnly });
      return null;
    },
    'mount.list': () => mounts.list(),
    'config.get': () => context.config.info(),
    'config.reload': () => context.config.reload(),
    'daemon.handover': (request) => {
      context.handOver(request);
      return null;
    },
    'daemon.restart': ({ force }) => ({ pid: context.restart(force ?? false) }),
    shutdown: () => {
      setImmediate(context.requestShutdown);
      return null;
    },
  };
}
