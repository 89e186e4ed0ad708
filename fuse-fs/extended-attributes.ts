/**
 * Operations on extended attributes: which names there are, what they may hold, and what the two access
 * lists do. The kernel has checked permissions (`trusted.*` is root's, `user.*` the owner's and only on
 * files and directories) and who may set an access list.
 */
import { ACL_ACCESS, ACL_DEFAULT, isEquivalentToMode, modeOfAcl, parseAcl } from './acl.ts';
import { Errno } from './errno.ts';
import { FileMode, isDirectory, isRegular, isSymbolicLink } from './file-mode.ts';
import { InodeWord } from './inodes.ts';
import { Touch, type Tree } from './tree.ts';
import { xattrBytesFor } from './xattrs.ts';

/** limits.h `XATTR_NAME_MAX`, `XATTR_SIZE_MAX`, `XATTR_LIST_MAX`: bytes. */
const NAME_LENGTH_MAX = 255;
const VALUE_LENGTH_MAX = 65_536;
const LIST_LENGTH_MAX = 65_536;

/** xattr.h `XATTR_*`. */
const SetFlag = { CREATE: 1, REPLACE: 2 } as const;

const NAMESPACES = ['user.', 'security.', 'trusted.'];

function isAclName(name: string): boolean {
  return name === ACL_ACCESS || name === ACL_DEFAULT;
}

/** What is wrong with a name: 0 or a negative errno. */
function nameError(name: string): number {
  if (name.length === 0 || name.length > NAME_LENGTH_MAX) return -Errno.ERANGE;
  if (name.includes('\0')) return -Errno.EINVAL;
  if (isAclName(name)) return 0;
  const space = NAMESPACES.find((prefix) => name.startsWith(prefix));
  if (space === undefined) return -Errno.EOPNOTSUPP;
  return space.length === name.length ? -Errno.EINVAL : 0;
}

/** See `FileOperations.setAttribute`. */
export function setAttribute(
  tree: Tree,
  nodeid: number,
  name: string,
  value: string,
  flags: number,
  killSetGid: boolean,
): number {
  const slot = tree.slotOf(nodeid);
  if (slot === -1) return -Errno.ESTALE;
  const error = nameError(name);
  if (error < 0) return error;
  if (value.length > VALUE_LENGTH_MAX) return -Errno.E2BIG;
  if ((flags & ~(SetFlag.CREATE | SetFlag.REPLACE)) !== 0) return -Errno.EINVAL;
  if (isAclName(name)) return setAcl(tree, slot, name, value, killSetGid);
  const mode = tree.inodes.mode(slot);
  if (name.startsWith('user.') && !isRegular(mode) && !isDirectory(mode)) return -Errno.EPERM;
  const old = tree.xattrs.bytesOf(slot, name);
  if (old > 0 && (flags & SetFlag.CREATE) !== 0) return -Errno.EEXIST;
  if (old === 0 && (flags & SetFlag.REPLACE) !== 0) return -Errno.ENODATA;
  return keep(tree, slot, name, value);
}

/** See `FileOperations.getAttribute`. */
export function getAttribute(tree: Tree, nodeid: number, name: string): string | number {
  const slot = tree.slotOf(nodeid);
  if (slot === -1) return -Errno.ESTALE;
  const error = nameError(name);
  if (error < 0) return error;
  return tree.xattrs.get(slot, name) ?? -Errno.ENODATA;
}

/** See `FileOperations.listAttributes`. */
export function listAttributes(tree: Tree, nodeid: number): string | number {
  const slot = tree.slotOf(nodeid);
  return slot === -1 ? -Errno.ESTALE : tree.xattrs.names(slot);
}

/** See `FileOperations.removeAttribute`. */
export function removeAttribute(tree: Tree, nodeid: number, name: string): number {
  const slot = tree.slotOf(nodeid);
  if (slot === -1) return -Errno.ESTALE;
  const error = nameError(name);
  if (error < 0) return error;
  // To remove a list that is not there is no error (fs/posix_acl.c, simple_set_acl).
  if (!tree.xattrs.remove(slot, name) && !isAclName(name)) return -Errno.ENODATA;
  tree.clock.sample();
  tree.touch(slot, Touch.CHANGE);
  return 0;
}

/** Keeps a value if there is room. */
function keep(tree: Tree, slot: number, name: string, value: string): number {
  const old = tree.xattrs.bytesOf(slot, name);
  if (old === 0 && tree.xattrs.namesLength(slot) + name.length + 1 > LIST_LENGTH_MAX) {
    return -Errno.ENOSPC;
  }
  const more = xattrBytesFor(name.length, value.length) - old;
  if (more > 0 && !tree.hasRoom(0, more)) return -Errno.ENOSPC;
  tree.xattrs.set(slot, name, value);
  tree.clock.sample();
  tree.touch(slot, Touch.CHANGE);
  return 0;
}

/**
 * Sets an access list. The list of a file and its mode say the same: the mode follows, and a list
 * that says no more than the mode is not kept (`posix_acl_update_mode`).
 */
function setAcl(
  tree: Tree,
  slot: number,
  name: string,
  value: string,
  killSetGid: boolean,
): number {
  const mode = tree.inodes.mode(slot);
  if (isSymbolicLink(mode)) return -Errno.EOPNOTSUPP;
  const acl = value === '' ? undefined : parseAcl(value);
  if (acl === undefined && value !== '') return -Errno.EINVAL;
  const empty = acl === undefined || acl.tags.length === 0;
  if (name === ACL_DEFAULT) {
    if (!isDirectory(mode)) return empty ? 0 : -Errno.EACCES;
    return empty ? removeAttribute(tree, slot + 1, name) : keep(tree, slot, name, value);
  }
  const followed = empty ? mode : modeOfAcl(acl, mode);
  const newMode = killSetGid ? followed & ~FileMode.S_ISGID : followed;
  const error =
    empty || isEquivalentToMode(acl)
      ? removeAttribute(tree, slot + 1, name)
      : keep(tree, slot, name, value);
  if (error === 0) tree.inodes.setWord(slot, InodeWord.MODE, newMode);
  return error;
}
