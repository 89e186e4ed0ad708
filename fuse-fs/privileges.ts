/**
 * What the kernel leaves to a file system that has `FUSE_HANDLE_KILLPRIV_V2`: taking set-user-id,
 * set-group-id and file capabilities from files whose contents or owner change; and the access
 * list of a file, which follows its mode.
 */
import { ACL_ACCESS, applyModeToAcl, formatAcl, isEquivalentToMode, parseAcl } from './acl.ts';
import { withoutPrivileges } from './file-mode.ts';
import { InodeWord } from './inodes.ts';
import type { Tree } from './tree.ts';

/** Name of the attribute with a file's capabilities. */
const CAPABILITY = 'security.capability';

/** Takes set-user-id and set-group-id from a file. */
export function killSetIds(tree: Tree, slot: number): void {
  const mode = tree.inodes.mode(slot);
  tree.inodes.setWord(slot, InodeWord.MODE, withoutPrivileges(mode));
}

/** Takes a file's capabilities. */
export function killCapability(tree: Tree, slot: number): void {
  if (tree.xattrs.hasAny(slot)) tree.xattrs.remove(slot, CAPABILITY);
}

/** Sets permission bits, and in the access list if there is one. */
export function setMode(tree: Tree, slot: number, mode: number): void {
  tree.inodes.setWord(slot, InodeWord.MODE, mode);
  if (!tree.xattrs.hasAny(slot)) return;
  const value = tree.xattrs.get(slot, ACL_ACCESS);
  const acl = value === undefined ? undefined : parseAcl(value);
  if (acl === undefined) return;
  applyModeToAcl(acl, mode);
  if (isEquivalentToMode(acl)) tree.xattrs.remove(slot, ACL_ACCESS);
  else tree.xattrs.set(slot, ACL_ACCESS, formatAcl(acl));
}
