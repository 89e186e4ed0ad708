/**
 * What a daemon and the process of one of its mounts say to each other, over the IPC channel of
 * child_process (JSON, one message an event). The child is a consumer of its own: it dials the peers that
 * the daemon names, on a lane of the daemon's identity, holds the volume, and answers the kernel. So no
 * page passes through the daemon, and a daemon that is stopped or slow stops no file. When the
 * channel closes the daemon has died: the child unmounts (lazily if it must) and ends, and the pages go.
 * Ctrl-C in a terminal reaches the child too; it ignores SIGINT and SIGHUP, since the daemon tells it to
 * end. SIGTERM to the child alone is a lazy unmount and an end.
 */
import type { MountInfo } from '../../common/rpc-schema.ts';
import type { PoolLease, PoolUse } from '../managed/pool-lease.ts';

/** What a mount is to be. */
export interface MountRequest {
  /** Absolute path of the directory. */
  readonly directory: string;
  /** The name of the volume under the files, unique among volumes and mounts of the daemon. */
  readonly volumeName: string;
  /** Quota, bytes, a whole number of pages. */
  readonly sizeBytes: number;
  /** Providers for each slab. */
  readonly copies: number;
  /** Bytes of writes on their way at most. */
  readonly ringSizeBytes: number;
  /** Names or ids of the only providers; `local` is RAM of this machine, held by the child itself. */
  readonly providers: readonly string[] | undefined;
  /** Take it although the pool is smaller. */
  readonly overcommit: boolean;
  /** On managed leases. */
  readonly managed?: boolean;
  /** The files outlive the mount, whoever unmounts it: the child stays and can be told to `remount`. */
  readonly keep: boolean;
  /** Let other users in (`allow_other`; root mounts always do). */
  readonly allowOther: boolean;
  /** Mount read-write with the kernel's writeback cache, or tuned for many small files. */
  readonly profile: 'default' | 'build-cache';
  /** How requests come: from /dev/fuse in TypeScript, or through fuse-native. */
  readonly transport: 'kernel' | 'native';
  /** Owner of the root directory. */
  readonly uid: number;
  /** Group of the root directory. */
  readonly gid: number;
  /** Permission bits of the root directory. */
  readonly mode: number;
}

/** A provider that the child may use. */
export interface MountPeer {
  /** Its node id. */
  readonly nodeId: string;
  /** What people call it. */
  readonly name: string;
  /** `HOST:PORT` where it listens. */
  readonly address: string;
  /** Its public key, base64: the child trusts this key and no other. */
  readonly publicKey: string;
  /** It is drained from here: nothing new is placed there, and what is there leaves. Default: no. */
  readonly avoided?: boolean;
}

/** How a mount is: what of {@link MountInfo} only its process knows. */
export interface MountStatus extends Pick<
  MountInfo,
  | 'directory'
  | 'sizeBytes'
  | 'usedBytes'
  | 'inodeCount'
  | 'metadataBytes'
  | 'leasedBytes'
  | 'copies'
  | 'degradedSlabs'
  | 'providers'
  | 'damagedFiles'
  | 'damagedFileCount'
  | 'requestCount'
  | 'pid'
> {
  /** Its volume. */
  readonly volumeName: string;
  /** How requests come. */
  readonly transport: 'kernel' | 'native';
}

/** From the daemon to the child. */
export type ToMount =
  | {
      readonly type: 'start';
      readonly request: MountRequest;
      /** Directory of the identity key. */
      readonly stateDirectory: string;
      /** The node's name, machine and zone, as in the configuration. */
      readonly name: string;
      readonly hostId: string;
      readonly zone: string;
      readonly leaseTtlMs: number;
      readonly peerDeadMs: number;
      /** Directory for the tmpfs of a `local` provider. */
      readonly memoryDirectory: string | undefined;
      readonly logLevel: string;
      readonly peers: readonly MountPeer[];
      /** Its managed leases, whose providers are then its only peers; absent for any other mount. */
      readonly leases?: readonly PoolLease[];
    }
  /** The whole list again, whenever it changes; who is not on it is not trusted any more. */
  | { readonly type: 'peers'; readonly peers: readonly MountPeer[] }
  /** All managed leases of the mount, as they are now; answered with `use`. */
  | { readonly type: 'leases'; readonly id: number; readonly leases: readonly PoolLease[] }
  | { readonly type: 'status'; readonly id: number }
  /** Unmount, and end unless `keep`; a busy mount stays, unless `lazy`. Without a mount: end. */
  | {
      readonly type: 'unmount';
      readonly id: number;
      readonly lazy: boolean;
      readonly keep: boolean;
    }
  /** Mount files that were kept at another, or the same, directory. */
  | { readonly type: 'remount'; readonly id: number; readonly directory: string };

/** From the child to the daemon. */
export type FromMount =
  | { readonly type: 'mounted' }
  /** Before `mounted`: it will end. Code and message are those of a MemcloudError. */
  | { readonly type: 'failed'; readonly code: string; readonly message: string }
  | { readonly type: 'status'; readonly id: number; readonly status: MountStatus }
  /**
   * The end of an `unmount`: `busy` when something uses the mount, which stays. Unasked, with id 0, when
   * somebody else unmounted it: the child then ends, or keeps the files as `keep` of the request says.
   */
  | { readonly type: 'unmounted'; readonly id: number; readonly busy: boolean }
  /** The end of a `remount`: null, or the code and message of a MemcloudError; the files stay then. */
  | {
      readonly type: 'remounted';
      readonly id: number;
      readonly error: { readonly code: string; readonly message: string } | null;
    }
  /** What a managed mount has of its leases. */
  | { readonly type: 'use'; readonly id: number; readonly use: PoolUse }
  /** A provider broke the rules: the daemon quarantines it too. */
  | { readonly type: 'quarantine'; readonly nodeId: string; readonly reason: string };
