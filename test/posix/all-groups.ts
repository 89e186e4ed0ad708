/** All the facts by which a file system is judged, in the order in which they are tried. */
import { attributes } from './cases/attributes.ts';
import { directories } from './cases/directories.ts';
import { files } from './cases/files.ts';
import { links } from './cases/links.ts';
import { locks } from './cases/locks.ts';
import { memory } from './cases/memory.ts';
import { permissions } from './cases/permissions.ts';
import { renames } from './cases/rename.ts';
import { space } from './cases/space.ts';
import { xattrs } from './cases/xattr.ts';
import type { PosixGroup } from './case.ts';

/** The groups, each with its cases. */
export const posixGroups: readonly PosixGroup[] = [
  ...files,
  ...directories,
  ...renames,
  ...links,
  ...space,
  ...memory,
  ...attributes,
  ...xattrs,
  ...permissions,
  ...locks,
];
