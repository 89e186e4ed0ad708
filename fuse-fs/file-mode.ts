/**
 * The bits of `st_mode` (include/uapi/linux/stat.h) and what follows from them alone.
 */

/** Type and permission bits, named as in stat.h. */
export const FileMode = {
  S_IFMT: 0o170000,
  S_IFSOCK: 0o140000,
  S_IFLNK: 0o120000,
  S_IFREG: 0o100000,
  S_IFBLK: 0o060000,
  S_IFDIR: 0o040000,
  S_IFCHR: 0o020000,
  S_IFIFO: 0o010000,
  S_ISUID: 0o4000,
  S_ISGID: 0o2000,
  S_ISVTX: 0o1000,
  S_IXGRP: 0o0010,
} as const;

/** All bits that chmod(2) may set. */
export const PERMISSION_BITS = 0o7777;

/** Read, write and execute of user, group and others. */
export const ACCESS_BITS = 0o777;

/** True for a directory. */
export function isDirectory(mode: number): boolean {
  return (mode & FileMode.S_IFMT) === FileMode.S_IFDIR;
}

/** True for a regular file. */
export function isRegular(mode: number): boolean {
  return (mode & FileMode.S_IFMT) === FileMode.S_IFREG;
}

/** True for a symbolic link. */
export function isSymbolicLink(mode: number): boolean {
  return (mode & FileMode.S_IFMT) === FileMode.S_IFLNK;
}

/**
 * The mode of a file after somebody without CAP_FSETID wrote to it, or anybody changed its owner
 * (fuse.h `FUSE_HANDLE_KILLPRIV_V2`): set-group-id without group execution is no privilege and stays.
 */
export function withoutPrivileges(mode: number): number {
  const killed = mode & ~FileMode.S_ISUID;
  return (mode & FileMode.S_IXGRP) !== 0 ? killed & ~FileMode.S_ISGID : killed;
}
