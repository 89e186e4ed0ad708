/**
 * Where slabs come from: arenas of 1 GiB and a little, made when the ones there are full. Few large
 * sparse files keep the number of mappings and open files small; the size lets 64 slabs of 4096
 * pages fit with nothing left over, and the longest slab a lease may ask for (65536 pages) fits too.
 * Arenas stay until the pool closes: an empty one holds no RAM but its page tables (at most 2 MiB).
 */
import path from 'node:path';
import { PAGE_SIZE_BYTES, SLAB_PAGE_COUNT } from '../common/units.ts';
import { Arena } from './arena.ts';
import { Extents } from './extents.ts';
import { Slab, slabFileBytes } from './slab.ts';

/** Bytes of an arena: 64 slabs of 4096 sealed pages. */
export const ARENA_SIZE_BYTES = 64 * slabFileBytes(SLAB_PAGE_COUNT);

interface ArenaRoom {
  readonly arena: Arena;
  readonly extents: Extents;
}

/** Slabs in files `arena-0`, `arena-1`, ... of one directory. */
export class SlabPool {
  readonly #directory: string;
  readonly #rooms: ArenaRoom[] = [];

  /** @param directory - on tmpfs, empty, ours until the pool closed */
  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Paths of the backing files. */
  get files(): string[] {
    return this.#rooms.map((room) => room.arena.path);
  }

  /** Bytes of RAM that live pages hold. */
  get residentBytes(): number {
    let bytes = 0;
    for (const room of this.#rooms) bytes += room.arena.residentBytes;
    return bytes;
  }

  /**
   * Takes room for a slab, which costs no RAM until pages are written.
   *
   * @param pageCount - 1 to 65536
   * @throws MemcloudError `ERR_NATIVE`; node's error when a file cannot be made
   */
  take(pageCount: number): Slab {
    const filePageCount = slabFileBytes(pageCount) / PAGE_SIZE_BYTES;
    for (const room of this.#rooms) {
      const at = room.extents.take(filePageCount);
      if (at >= 0) return new Slab(room.arena, at * PAGE_SIZE_BYTES, pageCount);
    }
    const arena = new Arena(
      path.join(this.#directory, `arena-${this.#rooms.length}`),
      ARENA_SIZE_BYTES,
    );
    const extents = new Extents(ARENA_SIZE_BYTES / PAGE_SIZE_BYTES);
    this.#rooms.push({ arena, extents });
    return new Slab(arena, extents.take(filePageCount) * PAGE_SIZE_BYTES, pageCount);
  }

  /** Wipes a slab and takes its room back; the slab may not be used again. */
  give(slab: Slab): void {
    slab.wipe();
    const room = this.#rooms.find((candidate) => candidate.arena === slab.arena);
    room?.extents.give(
      slab.offsetBytes / PAGE_SIZE_BYTES,
      slabFileBytes(slab.pageCount) / PAGE_SIZE_BYTES,
    );
  }

  /** Unmaps and removes every file. All slabs were given back before. */
  close(): void {
    for (const room of this.#rooms) room.arena.close();
    this.#rooms.length = 0;
  }
}
