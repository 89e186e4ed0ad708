/**
 * The RPC methods of the daemon: one table of names, parameters and results, which the daemon
 * serves, the SDK calls and `docs/cli-json.md` documents. Parameters are checked against their
 * schema before a handler sees them. Results are plain JSON values; their fields are only ever
 * added, never renamed, so that scripts over `--json` go on working.
 */
import * as v from 'valibot';
import type { KitPart } from './kit-status.ts';
import type { ProviderUsage } from './ports.ts';
import type { ConfigChange, ConfigInfo } from './rpc-config.ts';
import type {
  DiscoveredNode,
  DrainInfo,
  GiveBackInfo,
  InviteInfo,
  PeerPing,
  StatsInfo,
} from './rpc-nodes.ts';
import type { GarbageCollectionInfo, HandoverInfo } from './rpc-process.ts';
import { CONTROL_RPC_PARAMS, type ControlRpcResults } from './rpc-control.ts';
import {
  MANAGED_OPTIONS,
  MANAGED_RPC_PARAMS,
  type ManagedRpcResults,
  type ManagedSummary,
} from './rpc-managed.ts';
import { OBJECT_RPC_PARAMS, type ObjectRpcResults } from './rpc-objects.ts';

const name = v.pipe(
  v.string(),
  v.regex(
    /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/,
    'expected 1 to 63 letters, digits, dots, dashes or underscores',
  ),
);
const BYTES_PROBLEM = 'expected a whole number of bytes';
const bytes = v.pipe(
  v.number(BYTES_PROBLEM),
  v.safeInteger(BYTES_PROBLEM),
  v.minValue(0, BYTES_PROBLEM),
);
const wholeNumber = (
  min: number,
  max: number,
): v.SchemaWithPipe<
  readonly [
    v.NumberSchema<string>,
    v.IntegerAction<number, string>,
    v.MinValueAction<number, number, string>,
    v.MaxValueAction<number, number, string>,
  ]
> => {
  const problem = `expected a whole number, ${min} to ${max}`;
  return v.pipe(
    v.number(problem),
    v.integer(problem),
    v.minValue(min, problem),
    v.maxValue(max, problem),
  );
};
const none = v.strictObject({});
/** The last uid and gid are "no change" to chown(2). */
const ID_MAX = 2 ** 32 - 2;

/** The parameters of each method, by name. */
export const RPC_PARAMS = {
  status: none,
  'peer.list': none,
  'peer.connect': v.strictObject({
    address: v.string(),
    /** What the node there may use here, bytes; without: what it may by the configuration. */
    allowedBytes: v.optional(bytes),
    /** The only key that may answer there: a fingerprint in words, a node id or a public key. */
    fingerprint: v.optional(v.string()),
  }),
  'peer.update': v.strictObject({ peer: v.string(), allowedBytes: v.nullable(bytes) }),
  'peer.ping': v.strictObject({ peer: v.string(), count: v.optional(wholeNumber(1, 10_000)) }),
  'discovery.list': none,
  'peer.disconnect': v.strictObject({ peer: v.string(), force: v.optional(v.boolean()) }),
  'peer.pardon': v.strictObject({ peer: v.string() }),
  'drain.start': v.strictObject({
    node: v.optional(v.string()),
    force: v.optional(v.boolean()),
  }),
  'drain.status': v.strictObject({ node: v.optional(v.string()) }),
  'drain.stop': v.strictObject({ node: v.optional(v.string()) }),
  'consent.list': none,
  'consent.answer': v.strictObject({
    request: v.string(),
    answer: v.picklist(['allow', 'trust', 'deny']),
  }),
  'trust.list': none,
  'trust.remove': v.strictObject({
    peer: v.string(),
    /** Refuse it from now on, instead of forgetting it. */
    deny: v.optional(v.boolean()),
  }),
  'trust.add': v.strictObject({ fingerprint: v.string(), name: v.optional(v.string()) }),
  'invite.create': v.strictObject({
    ttlMs: v.optional(wholeNumber(1000, 7 * 86_400_000)),
    // Where the joining machine reaches this one, `HOST:PORT`; without: every address of this machine.
    addresses: v.optional(v.array(v.string())),
    // What the machine that joins may use here, bytes.
    allowedBytes: v.optional(bytes),
  }),
  'invite.list': none,
  'invite.revoke': v.strictObject({ invite: v.string() }),
  'invite.join': v.strictObject({ token: v.string(), allowedBytes: v.optional(bytes) }),
  ...OBJECT_RPC_PARAMS,
  ...MANAGED_RPC_PARAMS,
  ...CONTROL_RPC_PARAMS,
  stats: none,
  'events.subscribe': v.strictObject({ topics: v.optional(v.array(v.string())) }),
  'volume.create': v.strictObject({
    name,
    sizeBytes: bytes,
    copies: v.optional(wholeNumber(1, 8)),
    providers: v.optional(v.array(v.string())),
    ringBytes: v.optional(bytes),
    spill: v.optional(v.strictObject({ place: v.string(), sizeBytes: bytes })),
    overcommit: v.optional(v.boolean()),
    /** On memory of the control plane: all of it is leased at once. */
    managed: v.optional(MANAGED_OPTIONS),
  }),
  'volume.list': none,
  'volume.inspect': v.strictObject({ name }),
  'volume.remove': v.strictObject({ name, force: v.optional(v.boolean()) }),
  'nbd.serve': v.strictObject({
    name,
    unixPath: v.optional(v.string()),
    tcpAddress: v.optional(v.string()),
    readOnly: v.optional(v.boolean()),
    tls: v.optional(v.picklist(['allow', 'require'])),
    tlsCertificates: v.optional(v.string()),
    tlsKeys: v.optional(v.string()),
    tlsVerifyPeer: v.optional(v.boolean()),
  }),
  'nbd.stop': v.strictObject({ name }),
  'nbd.attach': v.strictObject({
    name,
    device: v.optional(v.string()),
    connections: v.optional(wholeNumber(1, 16)),
    via: v.optional(v.picklist(['netlink', 'nbd-client'])),
    timeoutS: v.optional(wholeNumber(0, 86_400)),
  }),
  'nbd.detach': v.strictObject({ device: v.string() }),
  'nbd.list': none,
  'direct.check': v.strictObject({ insecurePlain: v.optional(v.boolean()) }),
  'direct.attach': v.strictObject({
    insecurePlain: v.optional(v.boolean()),
    sizeBytes: bytes,
    copies: v.optional(wholeNumber(1, 2)),
    providers: v.optional(v.array(v.string())),
    avoid: v.optional(v.array(v.string())),
    managed: v.optional(MANAGED_OPTIONS),
  }),
  'direct.detach': v.strictObject({ device: v.string() }),
  'direct.list': none,
  'mount.create': v.strictObject({
    directory: v.string(),
    makeDirectory: v.optional(v.boolean()),
    sizeBytes: v.optional(bytes),
    copies: v.optional(wholeNumber(1, 8)),
    volume: v.optional(name),
    providers: v.optional(v.array(v.string())),
    ringBytes: v.optional(bytes),
    overcommit: v.optional(v.boolean()),
    managed: v.optional(MANAGED_OPTIONS),
    keep: v.optional(v.boolean()),
    allowOther: v.optional(v.boolean()),
    profile: v.optional(v.picklist(['default', 'build-cache'])),
    transport: v.optional(v.picklist(['kernel', 'native'])),
    uid: v.optional(wholeNumber(0, ID_MAX)),
    gid: v.optional(wholeNumber(0, ID_MAX)),
    mode: v.optional(wholeNumber(0, 0o7777)),
  }),
  'mount.remove': v.strictObject({
    directory: v.string(),
    lazy: v.optional(v.boolean()),
    startingOnly: v.optional(v.boolean()),
  }),
  'mount.list': none,
  'config.get': none,
  'config.reload': none,
  'daemon.handover': v.strictObject({
    path: v.string(),
    force: v.boolean(),
    rehearsal: v.boolean(),
  }),
  'daemon.restart': v.strictObject({ force: v.optional(v.boolean()) }),
  shutdown: none,
} as const;

/** The name of a method. */
export type RpcMethod = keyof typeof RPC_PARAMS;

/** The parameters of a method. */
export type RpcParams<M extends RpcMethod> = v.InferOutput<(typeof RPC_PARAMS)[M]>;

/** A peer as `memcloud peer ls` shows it. */
export interface PeerInfo {
  /** Node id; empty while the peer was never reached. */
  readonly nodeId: string;
  /** Name that the peer gives itself, made safe to print. */
  readonly name: string;
  /** Where it is or was reached. */
  readonly address: string;
  /** `up`, `connecting`, `pending` (consent is needed, here or there), `refused`, `down`. */
  readonly state: string;
  /** Why it is not up, in words; empty when it is. */
  readonly reason: string;
  /** Its room, by its last word, as we may use it: what is offered and not used we could still get. */
  readonly usage: ProviderUsage | null;
  /** Round trip of the last ping, microseconds; null before the first. */
  readonly rttUs: number | null;
  /** The machine that it runs on, by its own word; empty while unknown. */
  readonly hostId: string;
  /** Its zone, by its own word; empty for none. */
  readonly zone: string;
  /** False while it takes no new pages: it is drained, from here or there, or short of memory. */
  readonly accepting: boolean;
  /** Why its pages are not believed any more; empty while they are. */
  readonly quarantine: string;
  /** Whether it is here only because the control plane says so: it has nothing but managed leases. */
  readonly guest: boolean;
  /** Its key in short words, the same on both screens; empty while the key is unknown. */
  readonly fingerprint: string;
  /** Until it is dialled again, milliseconds; null unless that is waited for. */
  readonly nextTryInMs: number | null;
  /** What it may use here at most, bytes; null: as much as is offered to all. */
  readonly allowedBytes: number | null;
  /** What we have there, mounts, direct swap and objects included: bytes as it charges them, by its last word. */
  readonly borrowedBytes: number;
  /** Lent to it here, its mounts, direct exports and objects included: bytes, metadata included. */
  readonly lentBytes: number;
  /** The leases of that. */
  readonly lentLeases: number;
}

/** A request for consent that waits for a human. */
export interface ConsentInfo {
  /** For `consent allow|trust|deny`. */
  readonly request: string;
  /** Node id of the stranger. */
  readonly nodeId: string;
  /** The name it gives itself, made safe to print. */
  readonly name: string;
  /** Where it is. */
  readonly address: string;
  /** Its key in short words, the same on both screens. */
  readonly fingerprint: string;
  /** `inbound` if it dialled us. */
  readonly direction: string;
  /** Seconds until the request lapses. */
  readonly expiresInS: number;
}

/** A decision about a key as `memcloud trust ls` shows it. */
export interface TrustInfo {
  /** Node id. */
  readonly nodeId: string;
  /** Its key in short words. */
  readonly fingerprint: string;
  /** Its public key, 64 hex digits. */
  readonly publicKey: string;
  /** Names of trusted peers that no longer trust it. */
  readonly revokedBy: readonly string[];
  /** The name it had when the decision was made. */
  readonly name: string;
  /** `trusted`, `denied`, or `expected`: trusted when it is first seen. */
  readonly decision: string;
  /** When, ISO 8601. */
  readonly decidedAt: string;
}

/** A volume as `memcloud volume ls` shows it. */
export interface VolumeInfo {
  /** Its name. */
  readonly name: string;
  /** Bytes. */
  readonly sizeBytes: number;
  /** Providers that each slab is kept on. */
  readonly copies: number;
  /** Bytes of pages kept sealed. */
  readonly storedBytes: number;
  /** Bytes leased from providers, copies counted. */
  readonly leasedBytes: number;
  /** `ok`, `degraded` or `lost`. */
  readonly health: string;
  /** Where it is served. */
  readonly servedAt: readonly string[];
  /** Kernel devices that it is attached to. */
  readonly devices: readonly string[];
  /** Whether it is on managed leases of the control plane. */
  readonly managed: boolean;
}

/** A volume as `memcloud volume inspect` shows it. */
export interface VolumeDetails extends VolumeInfo {
  /** Slabs with a replica set, and of these, those with fewer whole copies than promised. */
  readonly slabs: { readonly leased: number; readonly degraded: number };
  /** Slabs whose copies are being made whole or moved, and bytes still to be copied. */
  readonly repair: { readonly slabs: number; readonly bytesLeft: number };
  /** Page-outs on their way, in pages. */
  readonly ring: { readonly used: number; readonly size: number; readonly locked: boolean };
  /** Who holds it. */
  readonly providers: readonly {
    readonly nodeId: string;
    readonly name: string;
    readonly leasedBytes: number;
    /** Until the first lease ends unless it is renewed, milliseconds; not above 0 once it has ended. */
    readonly leaseEndsInMs: number;
    /** The time to live of a lease that was just renewed, milliseconds. */
    readonly leaseTtlMs: number;
  }[];
  /** Counters from the creation on. */
  readonly counters: Readonly<Record<string, number>>;
}

/** A kernel device. */
export interface AttachmentInfo {
  /** `/dev/nbdN`. */
  readonly device: string;
  /** The volume behind it. */
  readonly volume: string;
  /** Sockets between kernel and daemon. */
  readonly connections: number;
  /** `netlink` or `nbd-client`. */
  readonly via: string;
}

/**
 * What protects the connection under a copy of a direct device: kernel TLS; a WireGuard tunnel that the
 * socket is bound to; or nothing (`--insecure-plain`).
 */
export type DirectConnection = 'tls' | 'wireguard' | 'plain';

/** Whether this machine can have direct devices, and how. */
export interface DirectCheck {
  /** Whether. */
  readonly possible: boolean;
  /** What it lacks, a sentence each. */
  readonly problems: readonly string[];
  /** What would protect connections; `plain` only for who asked for it. */
  readonly connection: DirectConnection;
}

/** A direct device: swap for the whole machine, without memnode in the path. */
export interface DirectDeviceInfo {
  /** `/dev/dm-N`, or `/dev/mdN` with two copies. */
  readonly device: string;
  /** Bytes. */
  readonly sizeBytes: number;
  /** Providers that keep each page. */
  readonly copies: number;
  /** `ok`, `degraded` (a copy is lost) or `lost`. */
  readonly health: string;
  /** Whether it is on managed leases of the control plane. */
  readonly managed: boolean;
  /** The copies. */
  readonly legs: readonly {
    /** `/dev/nbdN`. */
    readonly device: string;
    /** Node id of the provider. */
    readonly nodeId: string;
    /** Its name. */
    readonly name: string;
    /** `live`, `reconnecting` or `lost`. */
    readonly state: string;
    /** What protects its connection. */
    readonly connection: DirectConnection;
  }[];
}

/** A direct export of this machine: where the kernel of another one keeps pages. */
export interface DirectExportInfo {
  /** Its name, 16 hex digits. */
  readonly exportId: string;
  /** Node id of the machine that uses it. */
  readonly holder: string;
  /** Bytes leased. */
  readonly sizeBytes: number;
  /** Bytes that hold data now. */
  readonly residentBytes: number;
  /** Whether that machine is connected. */
  readonly connected: boolean;
}

/** A mount as `memcloud mount ls` shows it. */
export interface MountInfo {
  /** Where; empty while files are kept without a mount. */
  readonly directory: string;
  /** The volume under the files. */
  readonly volume: string;
  /**
   * `starting`, `mounted`, `kept` (files without a mount), `silent` (its process does not answer; numbers
   * are those of its last answer) or `dead` (its process ended by itself; the files are gone).
   */
  readonly state: string;
  /** Why it is silent or dead; else empty. */
  readonly reason: string;
  /** Quota, bytes. */
  readonly sizeBytes: number;
  /** Bytes in files. */
  readonly usedBytes: number;
  /** Inodes in use. */
  readonly inodeCount: number;
  /** Bytes of metadata, in this machine's RAM. */
  readonly metadataBytes: number;
  /** Bytes leased from providers, copies counted. */
  readonly leasedBytes: number;
  /** Providers that each slab is kept on. */
  readonly copies: number;
  /** Slabs with fewer copies than promised. */
  readonly degradedSlabs: number;
  /** Who holds it. */
  readonly providers: readonly {
    readonly name: string;
    readonly up: boolean;
    readonly leasedBytes: number;
  }[];
  /** Paths of files of which bytes are lost, at most 100. */
  readonly damagedFiles: readonly string[];
  /** Files of which bytes are lost. */
  readonly damagedFileCount: number;
  /** FUSE requests answered. */
  readonly requestCount: number;
  /** Whether the files outlive the mount. */
  readonly keep: boolean;
  /** Whether it is on managed leases of the control plane. */
  readonly managed: boolean;
  /** `default` or `build-cache`. */
  readonly profile: string;
  /** How requests come: `kernel` or `native`. */
  readonly transport: string;
  /** The process that serves it. */
  readonly pid: number;
}

/** The daemon as `memcloud status` shows it. */
export interface StatusInfo {
  /** What answers on this socket. */
  readonly daemon: 'memnode' | 'control-node';
  /** Version of the program. */
  readonly version: string;
  /** Node id. */
  readonly nodeId: string;
  /** Its key in short words: what other machines show when they ask about it. */
  readonly fingerprint: string;
  /** Node name. */
  readonly name: string;
  /** Process id of memnode. */
  readonly pid: number;
  /** Seconds since its start. */
  readonly uptimeS: number;
  /** Where peers reach it. */
  readonly peerAddress: string;
  /** What it lends. */
  readonly provider: {
    readonly usage: ProviderUsage;
    /** Where the lent pages lie. */
    readonly directory: string;
    /** Whether this machine's kernel may write lent pages to a swap disk. */
    readonly swapExposure: string;
    /** Pressure and drain. */
    readonly giveBack: GiveBackInfo;
    /** What it lends by the word of a control plane; in `usage` as well. */
    readonly managed: readonly {
      readonly leaseId: string;
      /** Node id of the client. */
      readonly client: string;
      readonly sizeBytes: number;
      /** Of that, given out as slabs. */
      readonly usedBytes: number;
      /** Until its end. */
      readonly endsInMs: number;
    }[];
  };
  /** What this node says of the machine that it runs on. */
  readonly hostId: string;
  /** Its zone; empty for none. */
  readonly zone: string;
  /** Peers. */
  readonly peers: readonly PeerInfo[];
  /** Requests for consent that wait. */
  readonly consentPending: number;
  /** Volumes. */
  readonly volumes: readonly VolumeInfo[];
  /** Direct devices of this machine. */
  readonly directDevices: readonly DirectDeviceInfo[];
  /** Direct exports that other machines have here. */
  readonly directExports: readonly DirectExportInfo[];
  /** File systems mounted by this daemon. */
  readonly mounts: readonly MountInfo[];
  /** Sentences about what is not well; empty when all is. */
  readonly health: readonly string[];
  /** The protections of memnode, as the kernel reports them. */
  readonly kit: readonly KitPart[];
  /** Pauses of the thread that serves pages, since its start. */
  readonly garbageCollection: GarbageCollectionInfo;
  /** How it took over from another memnode; null when it did not. */
  readonly handover: HandoverInfo | null;
  /** How it stands with its control plane, and what it has leased by it; null without one. */
  readonly managed: ManagedSummary | null;
}

/** The result of each method. */
export interface RpcResults extends ObjectRpcResults, ManagedRpcResults, ControlRpcResults {
  /** The daemon. */
  status: StatusInfo;
  /** The peers. */
  'peer.list': PeerInfo[];
  /** Resolves when the dial has ended one way or the other. */
  'peer.connect': PeerInfo;
  /** The peer as it is now. */
  'peer.update': PeerInfo;
  /** How long requests take there. */
  'peer.ping': PeerPing;
  /** What is announced around here, ourselves left out. */
  'discovery.list': DiscoveredNode[];
  /** Nothing. */
  'peer.disconnect': null;
  /** Nothing; its pages are believed again. */
  'peer.pardon': null;
  /** As it was found. */
  'drain.start': DrainInfo;
  /** As it is. */
  'drain.status': DrainInfo;
  /** As it is. */
  'drain.stop': DrainInfo;
  /** What waits for a human. */
  'consent.list': ConsentInfo[];
  /** Nothing. */
  'consent.answer': null;
  /** Keys that a human, or --auto-trust, has decided about. */
  'trust.list': TrustInfo[];
  /** Nothing; sessions with the key end at once. */
  'trust.remove': null;
  /** The entry. */
  'trust.add': TrustInfo;
  /** The invitation, and the token, which is shown this once. */
  'invite.create': InviteInfo & { readonly token: string };
  /** The invitations that are open. */
  'invite.list': InviteInfo[];
  /** Nothing. */
  'invite.revoke': null;
  /** The node that was joined. */
  'invite.join': PeerInfo;
  /** Counters and gauges of the daemon. */
  stats: StatsInfo;
  /** Nothing; from here on the connection gets messages `{event, data}` until it ends. */
  'events.subscribe': null;
  /** The new volume. */
  'volume.create': VolumeInfo;
  /** The volumes. */
  'volume.list': VolumeInfo[];
  /** The volume. */
  'volume.inspect': VolumeDetails;
  /** Nothing. */
  'volume.remove': null;
  /** The NBD URI. */
  'nbd.serve': { readonly uri: string };
  /** Nothing. */
  'nbd.stop': null;
  /** The device. */
  'nbd.attach': AttachmentInfo;
  /** Nothing. */
  'nbd.detach': null;
  /** Kernel devices of this daemon. */
  'nbd.list': AttachmentInfo[];
  /** Whether this machine can have direct devices, and what it lacks. */
  'direct.check': DirectCheck;
  /** The new device. */
  'direct.attach': DirectDeviceInfo;
  /** Nothing. */
  'direct.detach': null;
  /** The direct devices. */
  'direct.list': DirectDeviceInfo[];
  /** The new mount. */
  'mount.create': MountInfo;
  /** Nothing. */
  'mount.remove': null;
  /** The mounts, and files that are kept. */
  'mount.list': MountInfo[];
  /** What counts, and where it was written. */
  'config.get': ConfigInfo;
  /** What a change of the files did; nothing is changed when a file is wrong. */
  'config.reload': ConfigChange[];
  /** Nothing; the daemon then hands over to the process that listens on `path`, or goes on. */
  'daemon.handover': null;
  /** The process that was started to replace the daemon; `status` tells which of the two runs. */
  'daemon.restart': { readonly pid: number };
  /** Nothing; the daemon ends after the reply. */
  shutdown: null;
}

/**
 * Checks parameters that came from outside.
 *
 * @returns the parameters, or a sentence that says what is wrong with them
 */
export function checkRpcParams<M extends RpcMethod>(
  method: M,
  params: unknown,
): { params: RpcParams<M> } | { problem: string } {
  const result = v.safeParse(RPC_PARAMS[method], params ?? {});
  if (result.success) return { params: result.output };
  const issue = result.issues[0];
  const path = issue.path?.map((part) => String(part.key)).join('.') ?? '';
  return { problem: path === '' ? issue.message : `${path}: ${issue.message}` };
}
