/**
 * Everything that the checks look at, as plain values. Collecting (collect-*.ts) is a thin shell
 * that decides nothing; the checks are pure functions of these facts, so that each of their branches
 * is tested without a machine that has the fault.
 */
import type { ManagedLeaseInfo } from '../../common/rpc-managed.ts';
import type { DirectConnection, StatusInfo, VolumeDetails } from '../../common/rpc-schema.ts';
import type { BlockQueue } from '../system/block-queue.ts';
import type { ModuleState } from '../system/kernel-modules.ts';
import type { AbandonedScope } from '../system/scope-register.ts';
import type { SwapLine } from '../system/swap-device.ts';

/** Parts of the kernel that are looked for. */
export const MODULES = ['nbd', 'tls', 'dm-crypt', 'raid1'] as const;

/** Ciphers that the kernel encrypts remote swap with: the name in /proc/crypto, the module. */
export const CIPHERS = [
  { name: 'rfc7539(chacha20,poly1305)', module: 'chacha20poly1305' },
  { name: 'xts(aes)', module: 'xts' },
] as const;

/** Programs that are looked for. */
export const TOOLS = ['mkswap', 'swapon', 'swapoff', 'dmsetup', 'mdadm'] as const;

/** Values of /proc/sys/vm that matter to remote swap. */
export const VM_VALUES = [
  'min_free_kbytes',
  'watermark_scale_factor',
  'page-cluster',
  'swappiness',
] as const;

/** The kernel and the rights of this process. */
export interface KernelFacts {
  /** As `uname -r` says it. */
  readonly release: string;
  /** Parts of the kernel. */
  readonly modules: Readonly<Record<(typeof MODULES)[number], ModuleState>>;
  /** Ciphers, by the name in /proc/crypto. */
  readonly ciphers: Readonly<Record<(typeof CIPHERS)[number]['name'], ModuleState>>;
  /** Programs. */
  readonly tools: Readonly<Record<(typeof TOOLS)[number], boolean>>;
  /** CapEff of /proc/self/status; undefined when it cannot be read. */
  readonly capabilities: bigint | undefined;
  /** Soft limit of locked memory, bytes; Infinity without one. */
  readonly memlockBytes: number;
}

/** What `memcloud mount` needs. */
export interface FuseFacts {
  /** /dev/fuse: there, not there, or not for this user. */
  readonly device: 'ready' | 'absent' | 'refused';
  /** fusermount3, with which users mount. */
  readonly fusermount: boolean;
  /** Root allows users to share their mounts (/etc/fuse.conf). */
  readonly userAllowOther: boolean;
  /** Directories of mounts that a killed memnode left. */
  readonly staleMounts: readonly string[];
}

/** zswap's parameters. */
export interface ZswapFacts {
  /** On. */
  readonly enabled: boolean;
  /** Most of the RAM that it takes, percent. */
  readonly maxPoolPercent: number;
}

/** Control groups. */
export interface CgroupFacts {
  /** Version at /sys/fs/cgroup: 2, or 1 where version 2 is absent or only beside it; 0 for none. */
  readonly version: 0 | 1 | 2;
  /** The memory controller can be used there (version 2). */
  readonly memory: boolean;
  /** memory.swap.max is there; undefined when no group shows it. */
  readonly swapLimit: boolean | undefined;
}

/** Memory and its management. */
export interface MemoryFacts {
  /** RAM, bytes. */
  readonly totalBytes: number;
  /** Control groups. */
  readonly cgroups: CgroupFacts;
  /** Values of /proc/sys/vm; undefined for one that this kernel has not. */
  readonly vm: Readonly<Record<(typeof VM_VALUES)[number], number | undefined>>;
  /** undefined when the kernel has no zswap. */
  readonly zswap: ZswapFacts | undefined;
}

/** A swap area and what it stands on. */
export interface SwapFacts extends SwapLine {
  /** The stack of devices under it, the lowest first; none for a file. */
  readonly queues: readonly BlockQueue[];
}

/** The clock of the machine. Leases run on the monotonic one and do not care. */
export interface ClockFacts {
  /** Milliseconds since 1970. */
  readonly wallMs: number;
  /** Whether the kernel says that something keeps it right; undefined when it does not say. */
  readonly synchronised: boolean | undefined;
}

/** The way to one peer. */
export interface PathFacts {
  /** What the peer is called, or its address. */
  readonly peer: string;
  /** Its host. */
  readonly host: string;
  /** The interface that packets leave by; empty when unknown. */
  readonly interface: string;
  /** Its MTU, bytes. */
  readonly interfaceMtu: number;
  /** It is a network card or a bridge of such, not a tunnel or the loopback. */
  readonly ethernet: boolean;
  /** The MTU of the whole way as far as the kernel knows it; undefined when it does not say. */
  readonly pathMtu: number | undefined;
}

/** One try to reach memnode's peer port from here. */
export interface PortProbe {
  /** `HOST:PORT`, one of this machine's own addresses. */
  readonly address: string;
  /** Empty when something answered, else the errno or `timeout`. */
  readonly failure: string;
}

/** The network as memnode uses it. */
export interface NetworkFacts {
  /** The way to each peer. */
  readonly paths: readonly PathFacts[];
  /** Tries of the own port. */
  readonly probes: readonly PortProbe[];
  /** What `nft list ruleset` printed; undefined when it could not be asked. */
  readonly firewall: string | undefined;
}

/** What a running daemon says. */
export interface DaemonFacts {
  /** `memcloud status`. */
  readonly status: StatusInfo;
  /** `memcloud volume inspect` of each volume. */
  readonly volumes: readonly VolumeDetails[];
  /** `memcloud lease ls`. */
  readonly managedLeases?: readonly ManagedLeaseInfo[];
}

/** Why no daemon could be asked. */
export interface DaemonAbsence {
  /** The sentence of the error. */
  readonly reason: string;
}

/** One protection of a running memnode against the memory shortage that it serves. */
export interface KitPartFacts {
  /** Which. */
  readonly part: string;
  /** In force. */
  readonly active: boolean;
  /** What was seen. */
  readonly detail: string;
  /** What its absence risks. */
  readonly risk: string;
  /** Good to have; nobody is warned of its absence. */
  readonly optional?: boolean;
}

/** The facts. */
export interface MachineFacts {
  /** Version of Node. */
  readonly nodeVersion: string;
  /** Whether root asks. */
  readonly root: boolean;
  /** Where kernel-scripts/ lies. */
  readonly scriptsFolder: string;
  /** The RPC socket that was tried. */
  readonly socketPath: string;
  /** The kernel. */
  readonly kernel: KernelFacts;
  /** File systems of programs. */
  readonly fuse: FuseFacts;
  /** Memory. */
  readonly memory: MemoryFacts;
  /** Swap areas. */
  readonly swaps: readonly SwapFacts[];
  /** The clock. */
  readonly clock: ClockFacts;
  /** The daemon. */
  readonly daemon: DaemonFacts | DaemonAbsence;
  /** Groups that a command of ours limited before it was killed. */
  readonly abandonedScopes: readonly Pick<AbandonedScope, 'directory' | 'device' | 'before'>[];
  /** What would protect connections of the direct path; undefined when the daemon was not asked. */
  readonly directConnection: DirectConnection | undefined;
  /** Why the daemon cannot use the direct path, by a try; undefined when it was not asked. */
  readonly directProblems: readonly string[] | undefined;
  /** The network; undefined without a daemon. */
  readonly network: NetworkFacts | undefined;
  /** The kit of the running memnode; undefined without one. */
  readonly kit: readonly KitPartFacts[] | undefined;
}
