/**
 * What the RPC methods do: the operator's view of a daemon. Everything here is control path; no page
 * passes.
 */
import { MemcloudError } from '../common/errors.ts';
import { kitStatus } from '../common/kit-status.ts';
import type { NodeId } from '../common/ports.ts';
import { checkSocketPath } from '../common/paths.ts';
import type { HandoverInfo } from '../common/rpc-process.ts';
import type {
  DirectDeviceInfo,
  DirectExportInfo,
  MountInfo,
  RpcParams,
  StatusInfo,
  VolumeInfo,
} from '../common/rpc-schema.ts';
import { hostCount, takesSlabs } from '../common/slab-sources.ts';
import { fingerprintOf } from '../common/fingerprint.ts';
import { formatSize, roundUpToPages } from '../common/units.ts';
import { VERSION } from '../common/version.ts';
import type { ConsentQueue } from '../peer/consent.ts';
import type { Invites } from '../peer/invites.ts';
import type { Peers } from '../peer/peers.ts';
import type { Quarantines } from '../peer/quarantines.ts';
import type { Revocations } from '../peer/revocations.ts';
import type { TrustStore } from '../peer/trust.ts';
import type { RamProvider } from '../provider/service.ts';
import type { DirectDevices } from './direct/devices.ts';
import type { Drain } from './drain.ts';
import type { GarbageCollectionWatch } from './garbage-collection.ts';
import type { LiveConfig } from './live-config.ts';
import { mountHealth } from './mounts/describe.ts';
import { managedHealth } from './managed/health.ts';
import { describeLeases, managedHandlers, refuseUnmanaged } from './managed/rpc.ts';
import { summary, type ManagedNode } from './managed/node.ts';
import { notAControlNode } from './control-plane/refused.ts';
import type { Mounts } from './mounts/mounts.ts';
import { createMount, type MountContext } from './mounts/rpc.ts';
import { discoveryHandlers, type DiscoveryContext } from './discovery/rpc.ts';
import type { ObjectHandlers } from './objects/rpc.ts';
import { numbersHandlers, type NumbersContext } from './rpc/rpc.ts';
import { describePeers, peerHandlers, type PeerContext } from './peers/rpc.ts';
import type { RpcHandlers } from './rpc-server.ts';
import { trustHandlers, trustHealth, type Allow } from './trust/rpc.ts';
import { defaultCopies, ringSize } from './volume-defaults.ts';
import type { ServeRequest, VolumeRequest, Volumes } from './volumes.ts';

/** The parts of a daemon that methods work on. */
export interface RpcContext extends DiscoveryContext {
  /** What objects take here. */
  readonly objectNumbers: NumbersContext['objectNumbers'];
  /** The methods of objects. */
  readonly objectHandlers: ObjectHandlers;
  /** Calls so far. */
  readonly rpcCounters: NumbersContext['rpcCounters'];
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
  /** What the methods `peer.*` work on. */
  readonly peerContext: PeerContext;
  /** Empties providers. */
  readonly drain: Drain;
  /** Strangers that wait. */
  readonly consent: ConsentQueue;
  /** Whom it trusts. */
  readonly trust: TrustStore;
  /** The invitations that are open. */
  readonly invites: Invites;
  /** Who lost whose trust. */
  readonly revocations: Revocations;
  /** Gives a node what it was promised here. */
  readonly allow: Allow;
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
  /** Its part in a control plane, as a client; undefined without one. */
  readonly managed: () => ManagedNode | undefined;
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
  const managed = context.managed();
  const leases = managed === undefined ? [] : describeLeases(managed);
  return [...managedHealth(managed?.status(), leases), ...sentences, ...trustHealth(context)];
}

async function status(context: RpcContext): Promise<StatusInfo> {
  const mounts = await context.mounts.list();
  const directDevices = context.direct.list();
  const { usage, directory, swap, giveBack, managed } = context.provider.status();
  return {
    daemon: 'memnode',
    version: VERSION,
    nodeId: context.nodeId,
    fingerprint: fingerprintOf(context.nodeId),
    name: context.name,
    pid: process.pid,
    uptimeS: Math.round(process.uptime()),
    peerAddress: context.peerAddress,
    provider: {
      ...{ usage, directory, swapExposure: swap, giveBack },
      managed: managed.map(({ ttlMs: endsInMs, ...lease }) => ({ ...lease, endsInMs })),
    },
    hostId: context.hostId,
    zone: context.zone,
    peers: describePeers(context.peerContext),
    consentPending: context.consent.list().length,
    volumes: context.volumes.list(),
    directDevices,
    directExports: context.directExports(),
    mounts,
    health: healthOf(context, directDevices, mounts),
    kit: kitStatus(process.pid),
    garbageCollection: context.garbageCollection.info,
    handover: context.handover(),
    managed: summary(context.managed()),
  };
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

/** A volume on managed leases: all that it needs is leased before it is made. */
async function createManagedVolume(
  context: RpcContext,
  params: RpcParams<'volume.create'>,
  managed: NonNullable<RpcParams<'volume.create'>['managed']>,
  signal: AbortSignal,
): Promise<VolumeInfo> {
  const { volumes } = context;
  const { name, providers, copies } = params;
  if (params.spill !== undefined || params.overcommit === true) {
    const text = `volume ${name}: managed memory is leased whole, so it takes neither spill nor overcommit`;
    throw new MemcloudError('ERR_USAGE', text);
  }
  const node = context.managed() ?? refuseUnmanaged();
  volumes.refuseTaken(name);
  const request = volumeRequest(context, { ...params, copies: copies ?? 1, providers: undefined });
  const { sizeBytes } = request;
  const wish = { purpose: `volume ${name}`, sizeBytes, copies, providers, ...managed };
  const leases = await node.openVolume(wish, signal);
  try {
    return volumes.create({ ...request, copies: leases.copies }, leases);
  } catch (error) {
    await leases.close();
    throw error;
  }
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
  const { volumes, direct, mounts } = context;
  const isVolume = (name: string): boolean => volumes.has(name);
  const handlers: RpcHandlers = {
    status: () => status(context),
    ...peerHandlers(context.peerContext),
    ...managedHandlers(context.managed),
    ...notAControlNode(),
    'drain.start': ({ node, force }) => context.drain.start(node, force ?? false),
    'drain.status': ({ node }) => context.drain.status(node),
    'drain.stop': ({ node }) => context.drain.stop(node),
    ...trustHandlers(
      { ...context, listPeers: () => describePeers(context.peerContext) },
      context.allow,
    ),
    'volume.create': (params, call) => {
      if (mounts.has(params.name)) {
        const text = `volume ${params.name} is that of a mount; choose another name`;
        throw new MemcloudError('ERR_VOLUME_EXISTS', text);
      }
      const { managed } = params;
      if (managed !== undefined) return createManagedVolume(context, params, managed, call.signal);
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
    'direct.attach': ({ sizeBytes, copies, providers, avoid, managed, insecurePlain = false }) =>
      direct.attach({ sizeBytes, copies, providers, avoid, managed, insecurePlain }),
    'direct.detach': async ({ device }) => {
      await direct.detach(device);
      return null;
    },
    'direct.list': () => direct.list(),
    'mount.create': (params, { signal }) =>
      createMount(
        params,
        { mounts, rooms: context.rooms, isVolume, managed: context.managed() },
        signal,
      ),
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
    ...discoveryHandlers(context),
    ...context.objectHandlers,
    ...numbersHandlers(context, () => handlers),
    shutdown: () => {
      setImmediate(context.requestShutdown);
      return null;
    },
  };
  return handlers;
}
