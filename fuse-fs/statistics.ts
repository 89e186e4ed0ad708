/**
 * The room of the file system. An inode whose last name is gone and that nobody has open is at its end, but
 * ends only when the kernel's FORGET comes, and that may come behind requests that were made later. It
 * counts as gone already, so that who removes a file and looks finds its room free.
 */
import { InodeWord } from './inodes.ts';
import type { FileSystemStatistics } from './operations.ts';
import type { Tree } from './tree.ts';

/** Units of 512 bytes in a page. */
const BLOCKS_PER_PAGE = 8;

/**
 * Fills in the room.
 *
 * @param opensAreTold - false while no file was ever opened: then the transport does not tell, and a
 *   file without a name may be in use
 */
export function statistics(tree: Tree, into: FileSystemStatistics, opensAreTold: boolean): void {
  const { inodes, store, limits } = tree;
  const { pageCount, usedPageCount } = store.room();
  let endingCount = 0;
  let endingPageCount = 0;
  for (const slot of opensAreTold ? tree.orphans : []) {
    if (inodes.word(slot, InodeWord.OPENS) !== 0) continue;
    endingCount += 1;
    endingPageCount += store.blocks(slot) / BLOCKS_PER_PAGE;
  }
  const usedCount = Math.max(0, usedPageCount - Math.floor(endingPageCount));
  into.blockCount = pageCount;
  into.freeBlockCount = Math.max(0, pageCount - usedCount);
  into.inodeCount = limits.inodeCountMax;
  into.freeInodeCount = limits.inodeCountMax - inodes.count + endingCount;
}
