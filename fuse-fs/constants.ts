/**
 * The numbers of the kernel's FUSE protocol, in the order of its header, Linux
 * `include/uapi/linux/fuse.h` (protocol 7.45, Linux 6.18; dual licensed GPL-2.0 with syscall note and
 * BSD-2-Clause). Each group names its part of the header. Fields are in the byte order of the machine;
 * MemCloud runs on little-endian machines only. The last group is different: those are *our* limits.
 */

// --- Specification ------------------------------------------------------------------------------

/** `FUSE_KERNEL_VERSION`: the only major version that there has been since 2.6.14. */
export const FUSE_KERNEL_VERSION = 7;
/** `FUSE_KERNEL_MINOR_VERSION`: the newest minor version that this code knows. */
export const FUSE_KERNEL_MINOR_VERSION = 45;

/** `enum fuse_opcode`. 7 and 19 were never used. */
export const FuseOpcode = {
  FUSE_LOOKUP: 1,
  /** No reply. */
  FUSE_FORGET: 2,
  FUSE_GETATTR: 3,
  FUSE_SETATTR: 4,
  FUSE_READLINK: 5,
  FUSE_SYMLINK: 6,
  FUSE_MKNOD: 8,
  FUSE_MKDIR: 9,
  FUSE_UNLINK: 10,
  FUSE_RMDIR: 11,
  FUSE_RENAME: 12,
  FUSE_LINK: 13,
  FUSE_OPEN: 14,
  FUSE_READ: 15,
  FUSE_WRITE: 16,
  FUSE_STATFS: 17,
  FUSE_RELEASE: 18,
  FUSE_FSYNC: 20,
  FUSE_SETXATTR: 21,
  FUSE_GETXATTR: 22,
  FUSE_LISTXATTR: 23,
  FUSE_REMOVEXATTR: 24,
  FUSE_FLUSH: 25,
  FUSE_INIT: 26,
  FUSE_OPENDIR: 27,
  FUSE_READDIR: 28,
  FUSE_RELEASEDIR: 29,
  FUSE_FSYNCDIR: 30,
  FUSE_GETLK: 31,
  FUSE_SETLK: 32,
  FUSE_SETLKW: 33,
  FUSE_ACCESS: 34,
  FUSE_CREATE: 35,
  /** No reply, unless it cannot be handled at all. */
  FUSE_INTERRUPT: 36,
  FUSE_BMAP: 37,
  FUSE_DESTROY: 38,
  FUSE_IOCTL: 39,
  FUSE_POLL: 40,
  /** No reply: it is one, to `FUSE_NOTIFY_RETRIEVE`. */
  FUSE_NOTIFY_REPLY: 41,
  /** No reply. */
  FUSE_BATCH_FORGET: 42,
  FUSE_FALLOCATE: 43,
  FUSE_READDIRPLUS: 44,
  FUSE_RENAME2: 45,
  FUSE_LSEEK: 46,
  FUSE_COPY_FILE_RANGE: 47,
  FUSE_SETUPMAPPING: 48,
  FUSE_REMOVEMAPPING: 49,
  FUSE_SYNCFS: 50,
  FUSE_TMPFILE: 51,
  FUSE_STATX: 52,
  FUSE_COPY_FILE_RANGE_64: 53,
} as const;

const OPCODE_NAMES = new Map<number, string>(
  Object.entries(FuseOpcode).map(([name, opcode]) => [opcode, name]),
);

/** The name of an opcode for logs: `FUSE_READ`; `opcode 99` for one that has none. */
export function opcodeName(opcode: number): string {
  return OPCODE_NAMES.get(opcode) ?? `opcode ${opcode}`;
}

/** "INIT request/reply flags", bits 0 to 31: `fuse_init_in.flags` and `fuse_init_out.flags`. */
export const FuseInit = {
  FUSE_ASYNC_READ: 0x1,
  FUSE_POSIX_LOCKS: 0x2,
  FUSE_FILE_OPS: 0x4,
  FUSE_ATOMIC_O_TRUNC: 0x8,
  FUSE_EXPORT_SUPPORT: 0x10,
  FUSE_BIG_WRITES: 0x20,
  FUSE_DONT_MASK: 0x40,
  FUSE_SPLICE_WRITE: 0x80,
  FUSE_SPLICE_MOVE: 0x100,
  FUSE_SPLICE_READ: 0x200,
  FUSE_FLOCK_LOCKS: 0x400,
  FUSE_HAS_IOCTL_DIR: 0x800,
  FUSE_AUTO_INVAL_DATA: 0x1000,
  FUSE_DO_READDIRPLUS: 0x2000,
  FUSE_READDIRPLUS_AUTO: 0x4000,
  FUSE_ASYNC_DIO: 0x8000,
  FUSE_WRITEBACK_CACHE: 0x1_0000,
  FUSE_NO_OPEN_SUPPORT: 0x2_0000,
  FUSE_PARALLEL_DIROPS: 0x4_0000,
  FUSE_HANDLE_KILLPRIV: 0x8_0000,
  FUSE_POSIX_ACL: 0x10_0000,
  FUSE_ABORT_ERROR: 0x20_0000,
  FUSE_MAX_PAGES: 0x40_0000,
  FUSE_CACHE_SYMLINKS: 0x80_0000,
  FUSE_NO_OPENDIR_SUPPORT: 0x100_0000,
  FUSE_EXPLICIT_INVAL_DATA: 0x200_0000,
  FUSE_MAP_ALIGNMENT: 0x400_0000,
  FUSE_SUBMOUNTS: 0x800_0000,
  FUSE_HANDLE_KILLPRIV_V2: 0x1000_0000,
  FUSE_SETXATTR_EXT: 0x2000_0000,
  FUSE_INIT_EXT: 0x4000_0000,
  FUSE_INIT_RESERVED: 0x8000_0000,
} as const;

/** "INIT request/reply flags", bits 32 to 63, shifted down into `flags2`. */
export const FuseInit2 = {
  FUSE_SECURITY_CTX: 0x1,
  FUSE_HAS_INODE_DAX: 0x2,
  FUSE_CREATE_SUPP_GROUP: 0x4,
  FUSE_HAS_EXPIRE_ONLY: 0x8,
  FUSE_DIRECT_IO_ALLOW_MMAP: 0x10,
  FUSE_PASSTHROUGH: 0x20,
  FUSE_NO_EXPORT_SUPPORT: 0x40,
  FUSE_HAS_RESEND: 0x80,
  FUSE_ALLOW_IDMAP: 0x100,
  FUSE_OVER_IO_URING: 0x200,
  FUSE_REQUEST_TIMEOUT: 0x400,
} as const;

/** "Flags returned by the OPEN request": `fuse_open_out.open_flags`. */
export const FuseOpenReply = {
  FOPEN_DIRECT_IO: 0x1,
  FOPEN_KEEP_CACHE: 0x2,
  FOPEN_NONSEEKABLE: 0x4,
  FOPEN_CACHE_DIR: 0x8,
  FOPEN_STREAM: 0x10,
  FOPEN_NOFLUSH: 0x20,
  FOPEN_PARALLEL_DIRECT_WRITES: 0x40,
  FOPEN_PASSTHROUGH: 0x80,
} as const;

/** "Open flags": `fuse_open_in.open_flags`, `fuse_create_in.open_flags`. */
export const FUSE_OPEN_KILL_SUIDGID = 0x1;

/** "WRITE flags": `fuse_write_in.write_flags`. */
export const FuseWrite = {
  /** Written back from the page cache; the handle is guessed. */
  FUSE_WRITE_CACHE: 0x1,
  FUSE_WRITE_LOCKOWNER: 0x2,
  FUSE_WRITE_KILL_SUIDGID: 0x4,
} as const;

/** "setxattr flags": `fuse_setxattr_in.setxattr_flags`. */
export const FUSE_SETXATTR_ACL_KILL_SGID = 0x1;

/** `enum fuse_notify_code`: `fuse_out_header.error` of a message that answers no request (`unique` 0). */
export const FuseNotify = {
  FUSE_NOTIFY_POLL: 1,
  FUSE_NOTIFY_INVAL_INODE: 2,
  FUSE_NOTIFY_INVAL_ENTRY: 3,
  FUSE_NOTIFY_STORE: 4,
  FUSE_NOTIFY_RETRIEVE: 5,
  FUSE_NOTIFY_DELETE: 6,
  FUSE_NOTIFY_RESEND: 7,
  FUSE_NOTIFY_INC_EPOCH: 8,
  FUSE_NOTIFY_PRUNE: 9,
} as const;

/** `sizeof` of each structure that a request holds, bytes. Names and data follow some of them. */
export const FuseInSize = {
  fuse_in_header: 40,
  fuse_forget_in: 8,
  fuse_batch_forget_in: 8,
  fuse_forget_one: 16,
  fuse_getattr_in: 16,
  fuse_setattr_in: 88,
  fuse_mknod_in: 16,
  fuse_mkdir_in: 8,
  fuse_rename_in: 8,
  fuse_rename2_in: 16,
  fuse_link_in: 8,
  fuse_open_in: 8,
  fuse_create_in: 16,
  fuse_release_in: 24,
  fuse_flush_in: 24,
  fuse_read_in: 40,
  fuse_write_in: 40,
  fuse_fsync_in: 16,
  /** 8 before `FUSE_SETXATTR_EXT` (`FUSE_COMPAT_SETXATTR_IN_SIZE`). */
  fuse_setxattr_in: 16,
  FUSE_COMPAT_SETXATTR_IN_SIZE: 8,
  fuse_getxattr_in: 8,
  /** 16 before `FUSE_INIT_EXT` (protocol 7.36). */
  fuse_init_in: 64,
  FUSE_COMPAT_INIT_IN_SIZE: 16,
  fuse_interrupt_in: 8,
  fuse_fallocate_in: 32,
  fuse_lseek_in: 24,
  fuse_copy_file_range_in: 56,
} as const;

/** `sizeof` of each structure that a reply holds, bytes. */
export const FuseOutSize = {
  fuse_out_header: 16,
  fuse_attr: 88,
  fuse_entry_out: 128,
  fuse_attr_out: 104,
  fuse_open_out: 16,
  fuse_write_out: 8,
  fuse_statfs_out: 80,
  fuse_getxattr_out: 8,
  fuse_init_out: 64,
  fuse_lseek_out: 8,
  fuse_notify_inval_inode_out: 24,
  fuse_copy_file_range_out: 8,
  /** The name follows; the whole is padded to 8 bytes (`FUSE_DIRENT_ALIGN`). */
  fuse_dirent: 24,
  /** `fuse_entry_out` and `fuse_dirent`; the name follows, padded likewise. */
  fuse_direntplus: 152,
} as const;

/** `fcntl.h`, asm-generic: the bit of `fuse_open_in.flags` that the file system itself carries out. */
export const O_TRUNC = 0o1000;

// --- Limits of ours -----------------------------------------------------------------------------

/** Bytes of one read or write at most: 256 pages, what the kernel offers unless told otherwise. */
export const TRANSFER_SIZE_MAX_BYTES = 1024 * 1024;
/** Pages of it: `fuse_init_out.max_pages`. */
export const TRANSFER_PAGE_COUNT_MAX = 256;
/** Longest name of a directory entry, bytes (`NAME_MAX`). */
export const NAME_SIZE_MAX_BYTES = 255;
/** Longest target of a symbolic link, bytes (`PATH_MAX` without its NUL). */
export const TARGET_SIZE_MAX_BYTES = 4095;
/** Longest name of an extended attribute, bytes (`XATTR_NAME_MAX`). */
export const XATTR_NAME_SIZE_MAX_BYTES = 255;
/** Longest value of an extended attribute, bytes (`XATTR_SIZE_MAX`). */
export const XATTR_VALUE_SIZE_MAX_BYTES = 65536;
/** How long the kernel may believe names and attributes, seconds: nobody else changes them. */
export const CACHE_VALID_SECONDS = 86_400;
/** The oldest kernel served: 7.23 (Linux 3.15) brought the writeback cache and today's `fuse_init_out`. */
export const MINOR_VERSION_MIN = 23;
/** Requests that the kernel keeps under way for nobody in particular (read-ahead, writeback). */
export const BACKGROUND_COUNT_MAX = 64;
/** Requests that may wait for the pool; while so many do, no more are taken from the kernel. */
export const SLOT_COUNT = 128;
