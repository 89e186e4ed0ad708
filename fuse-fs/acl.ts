/**
 * POSIX access control lists (POSIX.1e draft 17) as they stand in extended attributes, version 2
 * (include/uapi/linux/posix_acl_xattr.h): a word 2, then for each entry a tag and permissions of 16 bits
 * and an id of 32, little endian, in the order owner, users, group, groups, mask, others. And
 * how a list and the nine mode bits follow each other (fs/posix_acl.c). Pure.
 *
 * Lists are strings of one character for each byte, as the rest of the file system has them.
 */
import { ACCESS_BITS, PERMISSION_BITS } from './file-mode.ts';

/** Name of the list that decides about access. */
export const ACL_ACCESS = 'system.posix_acl_access';

/** Name of the list of a directory that new files in it begin with. */
export const ACL_DEFAULT = 'system.posix_acl_default';

/** posix_acl.h `ACL_*`: the tags. */
const Tag = {
  USER_OBJ: 0x01,
  USER: 0x02,
  GROUP_OBJ: 0x04,
  GROUP: 0x08,
  MASK: 0x10,
  OTHER: 0x20,
} as const;

const VERSION = 2;
const HEADER_BYTES = 4;
const ENTRY_BYTES = 8;
const ID_NONE = 0xffff_ffff;

/** A list; `tags`, `permissions` and `ids` have one element for each entry. */
export interface Acl {
  readonly tags: readonly number[];
  readonly permissions: number[];
  readonly ids: readonly number[];
}

/** The order of the tags: each must not stand before what is greater; users and groups may repeat. */
const ORDER = new Map<number, number>([
  [Tag.USER_OBJ, 0],
  [Tag.USER, 1],
  [Tag.GROUP_OBJ, 2],
  [Tag.GROUP, 3],
  [Tag.MASK, 4],
  [Tag.OTHER, 5],
]);

/** Reads and checks a list (`posix_acl_from_xattr`, `posix_acl_valid`). @returns undefined when it is malformed */
export function parseAcl(value: string): Acl | undefined {
  const bytes = Buffer.from(value, 'latin1');
  if (bytes.length < HEADER_BYTES || (bytes.length - HEADER_BYTES) % ENTRY_BYTES !== 0) {
    return undefined;
  }
  if (bytes.readUInt32LE(0) !== VERSION) return undefined;
  const acl = { tags: [] as number[], permissions: [] as number[], ids: [] as number[] };
  for (let at = HEADER_BYTES; at < bytes.length; at += ENTRY_BYTES) {
    acl.tags.push(bytes.readUInt16LE(at));
    acl.permissions.push(bytes.readUInt16LE(at + 2));
    acl.ids.push(bytes.readUInt32LE(at + 4));
  }
  return acl.tags.length === 0 || isValid(acl) ? acl : undefined;
}

function isValid(acl: Acl): boolean {
  let last = -1;
  for (const [index, tag] of acl.tags.entries()) {
    const order = ORDER.get(tag);
    if (order === undefined || ((acl.permissions[index] as number) & ~7) !== 0) return false;
    const named = tag === Tag.USER || tag === Tag.GROUP;
    if (order < last || (order === last && !named)) return false;
    if (named && acl.ids[index] === ID_NONE) return false;
    last = order;
  }
  const has = (tag: number): boolean => acl.tags.includes(tag);
  if (!has(Tag.USER_OBJ) || !has(Tag.GROUP_OBJ) || !has(Tag.OTHER)) return false;
  return has(Tag.MASK) || (!has(Tag.USER) && !has(Tag.GROUP));
}

/** Writes a list. */
export function formatAcl(acl: Acl): string {
  const bytes = Buffer.alloc(HEADER_BYTES + acl.tags.length * ENTRY_BYTES);
  bytes.writeUInt32LE(VERSION, 0);
  for (const [index, tag] of acl.tags.entries()) {
    const at = HEADER_BYTES + index * ENTRY_BYTES;
    bytes.writeUInt16LE(tag, at);
    bytes.writeUInt16LE(acl.permissions[index] as number, at + 2);
    bytes.writeUInt32LE(acl.ids[index] as number, at + 4);
  }
  return bytes.toString('latin1');
}

/** True when the mode bits say all that the list says (`posix_acl_equiv_mode`). */
export function isEquivalentToMode(acl: Acl): boolean {
  return acl.tags.every(
    (tag) => tag === Tag.USER_OBJ || tag === Tag.GROUP_OBJ || tag === Tag.OTHER,
  );
}

/** The entry that the group bits of the mode stand for: the mask if there is one. */
function groupClass(acl: Acl): number {
  const mask = acl.tags.indexOf(Tag.MASK);
  return mask === -1 ? acl.tags.indexOf(Tag.GROUP_OBJ) : mask;
}

/** The mode with the nine access bits of a valid list. */
export function modeOfAcl(acl: Acl, mode: number): number {
  const owner = acl.permissions[acl.tags.indexOf(Tag.USER_OBJ)] as number;
  const group = acl.permissions[groupClass(acl)] as number;
  const others = acl.permissions[acl.tags.indexOf(Tag.OTHER)] as number;
  return (mode & ~ACCESS_BITS) | (owner << 6) | (group << 3) | others;
}

/** Gives a valid list the access bits of a mode (`posix_acl_chmod`). */
export function applyModeToAcl(acl: Acl, mode: number): void {
  acl.permissions[acl.tags.indexOf(Tag.USER_OBJ)] = (mode >>> 6) & 7;
  acl.permissions[groupClass(acl)] = (mode >>> 3) & 7;
  acl.permissions[acl.tags.indexOf(Tag.OTHER)] = mode & 7;
}

/**
 * Makes the access list of a new file from the default list of its directory: what the caller asked
 * for takes permissions away from it (`posix_acl_create`). The umask has no say.
 *
 * @param acl - a valid list, changed into the new file's
 * @param mode - as asked for
 * @returns the mode of the file
 */
export function inheritAcl(acl: Acl, mode: number): number {
  const asked = mode & PERMISSION_BITS;
  const restrict = (index: number, bits: number): void => {
    acl.permissions[index] = (acl.permissions[index] as number) & bits;
  };
  restrict(acl.tags.indexOf(Tag.USER_OBJ), asked >>> 6);
  restrict(groupClass(acl), asked >>> 3);
  restrict(acl.tags.indexOf(Tag.OTHER), asked);
  return modeOfAcl(acl, mode);
}
