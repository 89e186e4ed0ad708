/**
 * FUSE_INIT: the first request of a mount, in which kernel and server agree on a version and on
 * features. The kernel names its version and the features it has; we answer with our version and those
 * features that we both have and the profile wants. Of two minor versions the smaller holds.
 *
 * - A kernel of a later major version gets ours alone, and sends INIT again in that version.
 * - A kernel before 7.23 is refused: its structures are others.
 *
 * What we take, and why, stands beside each bit below. What we leave: POSIX and BSD locks (kept in the
 * kernel they work without us, open file description locks too), splice (data goes to and from a
 * mapping), NFS export, DAX, submounts, security contexts, passthrough, io_uring.
 */
import {
  BACKGROUND_COUNT_MAX,
  FUSE_KERNEL_MINOR_VERSION,
  FUSE_KERNEL_VERSION,
  FuseInit,
  FuseInit2,
  MINOR_VERSION_MIN,
  TRANSFER_PAGE_COUNT_MAX,
  TRANSFER_SIZE_MAX_BYTES,
} from './constants.ts';
import type { InitOut } from './reply-codec.ts';

/** How a mount is tuned. */
export interface FuseProfile {
  /** Writes gather in the kernel's page cache. */
  readonly writebackCache: boolean;
  /** Extended attributes and ACLs are there. */
  readonly extendedAttributes: boolean;
  /**
   * Opening and closing a file asks us nothing: the kernel, which checks permissions, keeps an inode
   * looked up as long as it is open, and that keeps the file.
   */
  readonly openless: boolean;
}

/** The profiles of `memcloud mount --profile`. */
export const FUSE_PROFILES = {
  /** All that tmpfs has. */
  default: { writebackCache: true, extendedAttributes: true, openless: true },
  /** Fewer requests for each small file made: no extended attributes, times kept here. */
  'build-cache': { writebackCache: false, extendedAttributes: false, openless: true },
} as const satisfies Record<string, FuseProfile>;

/** What the kernel says in `struct fuse_init_in`. */
export interface InitIn {
  /** Protocol version. */
  readonly major: number;
  /** Protocol version. */
  readonly minor: number;
  /** Bytes. */
  readonly maxReadahead: number;
  /** `FuseInit` bits that it offers. */
  readonly flags: number;
  /** `FuseInit2` bits that it offers; means something with `FUSE_INIT_EXT` only. */
  readonly flags2: number;
}

/** What becomes of an INIT. */
export type InitVerdict =
  /** Agreed: requests follow. */
  | { readonly kind: 'agreed'; readonly reply: InitOut }
  /** Ours is an older major version: the kernel asks again. */
  | { readonly kind: 'again'; readonly reply: InitOut }
  /** Too old a kernel. */
  | { readonly kind: 'refused' };

/** Taken whatever the profile. */
const FLAGS =
  /** Reads of one file may run side by side. */
  FuseInit.FUSE_ASYNC_READ |
  /** Writes of more than a page. */
  FuseInit.FUSE_BIG_WRITES |
  /** The umask comes with the request: a default ACL replaces it. */
  FuseInit.FUSE_DONT_MASK |
  /** Names with their attributes, when the kernel thinks it pays. */
  FuseInit.FUSE_DO_READDIRPLUS |
  FuseInit.FUSE_READDIRPLUS_AUTO |
  /** Direct I/O splits into requests under way together. */
  FuseInit.FUSE_ASYNC_DIO |
  /** Lookups and listings of one directory side by side. */
  FuseInit.FUSE_PARALLEL_DIROPS |
  /** Set-user-id bits fall here, so that the kernel need not look before each write. */
  FuseInit.FUSE_HANDLE_KILLPRIV_V2 |
  /** After an abort we are told so. */
  FuseInit.FUSE_ABORT_ERROR |
  /** Requests of 1 MiB. */
  FuseInit.FUSE_MAX_PAGES |
  /** Targets of links stay in the page cache. */
  FuseInit.FUSE_CACHE_SYMLINKS |
  /** A changed mtime drops no cached page: nobody writes but this kernel. */
  FuseInit.FUSE_EXPLICIT_INVAL_DATA |
  /** Flags beyond 31. */
  FuseInit.FUSE_INIT_EXT;

/** Taken whatever the profile. */
const FLAGS_2 =
  /** Shared mappings beside direct I/O. */
  FuseInit2.FUSE_DIRECT_IO_ALLOW_MMAP;

const PAGE_SIZE_BYTES = 4096;
/** What the kernel takes in a request when it does not know `FUSE_MAX_PAGES`. */
const TRANSFER_SIZE_OLD_MAX_BYTES = 32 * PAGE_SIZE_BYTES;

function flagsOf(profile: FuseProfile): number {
  let flags = FLAGS;
  if (profile.writebackCache) flags |= FuseInit.FUSE_WRITEBACK_CACHE;
  if (profile.extendedAttributes) flags |= FuseInit.FUSE_POSIX_ACL | FuseInit.FUSE_SETXATTR_EXT;
  // An open that is never sent can truncate nothing: then the kernel sends SETATTR.
  flags |= profile.openless ? FuseInit.FUSE_NO_OPEN_SUPPORT : FuseInit.FUSE_ATOMIC_O_TRUNC;
  return flags;
}

/** Answers an INIT. */
export function negotiate(init: InitIn, profile: FuseProfile): InitVerdict {
  const reply = {
    major: FUSE_KERNEL_VERSION,
    minor: FUSE_KERNEL_MINOR_VERSION,
    maxReadahead: 0,
    flags: 0,
    flags2: 0,
    maxBackground: 0,
    congestionThreshold: 0,
    maxWrite: 0,
    timeGranularity: 0,
    maxPages: 0,
  };
  if (init.major > FUSE_KERNEL_VERSION) return { kind: 'again', reply };
  if (init.major < FUSE_KERNEL_VERSION || init.minor < MINOR_VERSION_MIN) {
    return { kind: 'refused' };
  }
  const flags = (init.flags & flagsOf(profile)) >>> 0;
  const largeRequests = (flags & FuseInit.FUSE_MAX_PAGES) !== 0;
  return {
    kind: 'agreed',
    reply: {
      ...reply,
      minor: Math.min(init.minor, FUSE_KERNEL_MINOR_VERSION),
      maxReadahead: Math.min(init.maxReadahead, TRANSFER_SIZE_MAX_BYTES),
      flags,
      flags2: (flags & FuseInit.FUSE_INIT_EXT) === 0 ? 0 : (init.flags2 & FLAGS_2) >>> 0,
      maxBackground: BACKGROUND_COUNT_MAX,
      congestionThreshold: (BACKGROUND_COUNT_MAX * 3) / 4,
      maxWrite: largeRequests ? TRANSFER_SIZE_MAX_BYTES : TRANSFER_SIZE_OLD_MAX_BYTES,
      timeGranularity: 1,
      maxPages: largeRequests ? TRANSFER_PAGE_COUNT_MAX : 0,
    },
  };
}
