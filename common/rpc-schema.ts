/**
 * The RPC methods of the daemon: one table of names, parameters and results, which the daemon
 * serves, the SDK calls and `docs/cli-json.md` documents. Parameters are checked against their
 * schema before a handler sees them. Results are plain JSON values; their fields are only ever
 * added, never renamed, so that scripts over `--json` go on working.
 */
import * as v from 'valibot';
import type { KitPart } from './kit-status.ts';
import type { ProviderUsage } from './ports.ts';

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
  'peer.connect': v.strictObject({ address: v.string() }),
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
  'trust.remove': v.strictObject({ peer: v.string() }),
  'volume.create': v.strictObject({
    name,
    sizeBytes: bytes,
    copies: v.optional(wholeNumber(1, 8)),
    providers: v.optional(v.array(v.string())),
    ringBytes: v.optional(bytes),
    spill: v.optional(v.strictObject({ place: v.string(), sizeBytes: bytes })),
    overcommit: v.optional(v.boolean()),
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
  /** The room it lends. */
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
  /** Lent to it here, its mounts and direct exports included: bytes, metadata included. */
  readonly lentBytes: number;
  /** The leases of that. */
  readonly lentLeases: number;
}

/** Who has something on a node that is drained, and whether it can go. */
export interface DrainHolder {
  /** Node id of the consumer. */
  readonly nodeId: string;
  /** Its name. */
  readonly name: string;
  /** Bytes leased. */
  readonly heldBytes: number;
  /** Bytes free on the other providers that it may use. */
  readonly roomBytes: number;
  /** Why it cannot move everything; empty when it can. */
  readonly problem: string;
}

/** How far a drain is. */
export interface DrainInfo {
  /** Node id of the node that is to be empty. */
  readonly nodeId: string;
  /** Its name. */
  readonly name: string;
  /** `provider`: this node, of everybody's pages; `consumer`: a peer, of this node's pages. */
  readonly side: 'provider' | 'consumer';
  /** Whether it is being drained. */
  readonly draining: boolean;
  /** Bytes leased still, without direct ones. */
  readonly heldBytes: number;
  /** Who has them. */
  readonly holders: readonly DrainHolder[];
  /** What only `memcloud swap move`, on the machine `mover`, can make leave. */
  readonly direct: readonly {
    readonly what: string;
    readonly sizeBytes: number;
    readonly mover: string;
  }[];
}

/** Pressure of memory on a provider, and what it asks back for it. Counters run from its start. */
export interface GiveBackInfo {
  /** `calm`, `pressed` or `emergency`. */
  readonly level: string;
  /** Whether an operator wants the node empty. */
  readonly draining: boolean;
  /** Whether leases are granted. */
  readonly accepting: boolean;
  /** MemAvailable of the machine at the last look. */
  readonly availableBytes: number;
  /** What is to stay available. */
  readonly reserveBytes: number;
  /** What is missing. */
  readonly shortageBytes: number;
  /** Share of the last second in which some program waited for memory, 0 to 1. */
  readonly stallShare: number;
  /** Leases that are asked back now. */
  readonly askedCount: number;
  /** Times that pressure began. */
  readonly pressureCount: number;
  /** Leases that were asked back and came. */
  readonly givenBackCount: number;
  /** RAM that came with them. */
  readonly givenBackBytes: number;
  /** Leases that were ended in an emergency, lost to their holders. */
  readonly endedCount: number;
  /** RAM that came with those. */
  readonly endedBytes: number;
  /** From asking to the first lease that came, the last time, milliseconds; null before. */
  readonly firstBackMs: number | null;
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
  /** `inbound` if it dialled us. */
  readonly direction: string;
  /** Seconds until the request lapses. */
  readonly expiresInS: number;
}

/** A decision about a key as `memcloud trust ls` shows it. */
export interface TrustInfo {
  /** Node id. */
  readonly nodeId: string;
  /** The name it had when the decision was made. */
  readonly name: string;
  /** `trusted` or `denied`. */
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
  /** `default` or `build-cache`. */
  readonly profile: string;
  /** How requests come: `kernel` or `native`. */
  readonly transport: string;
  /** The process that serves it. */
  readonly pid: number;
}

/** An option as it counts. */
export interface ConfigSetting {
  /** Its key in a configuration file. */
  readonly key: string;
  /** Sizes are bytes; null when it is not set. */
  readonly value: unknown;
  /** `flag`, `env`, `file` or `default`. */
  readonly source: string;
  /** The flag, the variable, or `FILE:LINE`; empty for a default. */
  readonly at: string;
}

/** The configuration by which a daemon runs. */
export interface ConfigInfo {
  /** The file or folder that `--config` or `MEMCLOUD_CONFIG` named; null for the usual ones. */
  readonly configPath: string | null;
  /** The files that were read, the least important first. */
  readonly files: readonly string[];
  /** A row for each option. */
  readonly settings: readonly ConfigSetting[];
}

/** What a reload did about one option. */
export interface ConfigChange {
  /** Its key. */
  readonly key: string;
  /** What counted before; null when it was not set. */
  readonly before: unknown;
  /** What the files say now. */
  readonly after: unknown;
  /** `applied`, `restart` (it needs one), `next swap on`, `next mount` (it counts then) or `failed`. */
  readonly effect: 'applied' | 'restart' | 'next swap on' | 'next mount' | 'failed';
  /** Why it failed; else empty. */
  readonly note: string;
}

/** The daemon as `memcloud status` shows it. */
export interface StatusInfo {
  /** Version of the program. */
  readonly version: string;
  /** Node id. */
  readonly nodeId: string;
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
}

/** A handover, as the successor saw it. */
export interface HandoverInfo {
  /** Process id of the memnode before. */
  readonly fromPid: number;
  /** How long requests of clients were not read, milliseconds. */
  readonly pauseMs: number;
  /** From the same begin until every provider of a volume was connected again, milliseconds; null while not. */
  readonly providersMs: number | null;
  /** Bytes of memory that were handed over. */
  readonly bytes: number;
  /** Volumes, and connections of their clients. */
  readonly volumes: number;
  /** Connections of clients, the kernel's among them. */
  readonly connections: number;
}

/** Garbage collections that stopped the data plane. */
export interface GarbageCollectionInfo {
  /** Collections of any kind. */
  readonly count: number;
  /** Of these, of the whole heap. */
  readonly majorCount: number;
  /** Time in all, microseconds. */
  readonly totalUs: number;
  /** The longest, microseconds. */
  readonly longestUs: number;
  /** Bytes of the heap that outlived a collection; garbage that waits for a full one counts. */
  readonly oldHeapBytes: number;
}

/** The result of each method. */
export interface RpcResults {
  /** The daemon. */
  status: StatusInfo;
  /** The peers. */
  'peer.list': PeerInfo[];
  /** Resolves when the dial has ended one way or the other. */
  'peer.connect': PeerInfo;
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

/** The most bytes of one RPC message. */
export const RPC_MESSAGE_SIZE_MAX_BYTES = 1024 * 1024;
