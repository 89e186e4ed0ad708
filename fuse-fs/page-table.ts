/**
 * Where the pages of files lie: file page -> page of the volume, by the dense number of the file.
 *
 * A file costs 5 bytes here while it has no page or only page 0, whose place is the file's own word. Up to
 * 64 pages it has a run of 4, 16 or 64 words of `WordSlabs`. A bigger file is a tree: directories of
 * 1024 chunks of 1024 pages, made only where there are pages, so that a sparse file costs what is in it.
 * Words are the volume page + 1; 0 is a hole. Numbers of files are trusted to be dense, pages to be below 2^31
 * (8 TiB).
 */
import { SLAB_WORDS, WordSlabs, type SlabClass } from './word-slabs.ts';

/** How the pages of a file are kept. */
const Shape = {
  /** The file's word is the place of its page 0. */
  ONE: 0,
  /** The file's word is a run of `SLAB_WORDS[shape - 1]` words. */
  SLAB_FIRST: 1,
  /** As above, of the biggest run. */
  SLAB_LAST: 3,
  /** The file's word is the number of a tree. */
  TREE: 4,
} as const;

const CHUNK_CLASS = 3;
const CHUNK_PAGES = SLAB_WORDS[CHUNK_CLASS];
const DIRECTORY_CHUNKS = 1024;
const DIRECTORY_PAGES = CHUNK_PAGES * DIRECTORY_CHUNKS;
const FILE_COUNT_FIRST = 1024;

interface Directory {
  /** Handle + 1 of each chunk, 0 for none; as long as needed. */
  chunks: Uint32Array;
  /** Pages in each chunk. */
  counts: Uint16Array;
  chunkCount: number;
}

interface Tree {
  readonly directories: (Directory | undefined)[];
  pageCount: number;
}

/** The table. */
export class PageTable {
  readonly #slabs = new WordSlabs();
  #shapes = new Uint8Array(FILE_COUNT_FIRST);
  #words = new Uint32Array(FILE_COUNT_FIRST);
  readonly #trees: (Tree | undefined)[] = [];
  readonly #freeTrees: number[] = [];
  #pageCount = 0;
  /** The words that {@link PageTable.#find} found, where its page is in them, where they end. */
  #leaf: Uint32Array | undefined;
  #leafAt = 0;
  #leafEnd = 0;
  /** What {@link PageTable.run} found: the first volume page of the run, or -1 for a hole. */
  runPage = -1;

  /** Pages of all files. */
  get pageCount(): number {
    return this.#pageCount;
  }

  /** Bytes of memory, but for the objects of big files (some 200 bytes each). */
  get sizeBytes(): number {
    let bytes = this.#shapes.byteLength + this.#words.byteLength + this.#slabs.sizeBytes;
    for (const tree of this.#trees) {
      for (const directory of tree?.directories ?? []) {
        bytes += (directory?.chunks.byteLength ?? 0) + (directory?.counts.byteLength ?? 0);
      }
    }
    return bytes;
  }

  /** The volume page of a page of a file, or -1. */
  get(file: number, page: number): number {
    this.#find(file, page);
    return this.#leaf === undefined ? -1 : (this.#leaf[this.#leafAt] as number) - 1;
  }

  /**
   * The run of pages from `page` on that are all holes, or lie one behind the other in the volume; `end`
   * bounds it, and it may end early. Sets {@link PageTable.runPage}.
   *
   * @returns pages in the run, at least 1
   */
  run(file: number, page: number, end: number): number {
    this.#find(file, page);
    const stop = Math.min(end, this.#leafEnd);
    const leaf = this.#leaf;
    if (leaf === undefined) {
      this.runPage = -1;
      return stop - page;
    }
    const first = leaf[this.#leafAt] as number;
    this.runPage = first - 1;
    const step = first === 0 ? 0 : 1;
    const count = stop - page;
    let length = 1;
    while (length < count && leaf[this.#leafAt + length] === first + length * step) length += 1;
    return length;
  }

  /** Places holes `[page, +count)` of a file at `volumePage` and behind. */
  set(file: number, page: number, count: number, volumePage: number): void {
    this.#pageCount += count;
    for (let done = 0; done < count;) {
      const at = page + done;
      this.#make(file, at);
      const length = Math.min(count - done, this.#leafEnd - at);
      const leaf = this.#leaf as Uint32Array;
      for (let index = 0; index < length; index += 1) {
        leaf[this.#leafAt + index] = volumePage + done + index + 1;
      }
      this.#count(file, at, length);
      done += length;
    }
  }

  /** Makes pages `[page, +count)` of a file, none of which is a hole, holes. */
  clear(file: number, page: number, count: number): void {
    this.#pageCount -= count;
    for (let done = 0; done < count;) {
      const at = page + done;
      this.#find(file, at);
      const length = Math.min(count - done, this.#leafEnd - at);
      (this.#leaf as Uint32Array).fill(0, this.#leafAt, this.#leafAt + length);
      this.#count(file, at, -length);
      done += length;
    }
  }

  /** Pages that a file has. */
  filePageCount(file: number): number {
    const shape = this.#shapes[file] ?? Shape.ONE;
    const word = this.#words[file] ?? 0;
    if (shape === Shape.ONE) return word === 0 ? 0 : 1;
    if (shape === Shape.TREE) return (this.#trees[word] as Tree).pageCount;
    let count = 0;
    const words = this.#slabs.words(word);
    const offset = this.#slabs.offset(word);
    const size = SLAB_WORDS[(shape - Shape.SLAB_FIRST) as SlabClass];
    for (let at = offset; at < offset + size; at += 1) if (words[at] !== 0) count += 1;
    return count;
  }

  /** Finds the leaf of a page, or how far there is none. */
  #find(file: number, page: number): void {
    this.#leaf = undefined;
    this.#leafEnd = Infinity;
    if (file >= this.#words.length) return;
    const shape = this.#shapes[file] as number;
    const word = this.#words[file] as number;
    if (shape === Shape.ONE) {
      if (page === 0) this.#setLeaf(this.#words, file, 1);
    } else if (shape === Shape.TREE) {
      this.#findInTree(this.#trees[word] as Tree, page);
    } else {
      const size = SLAB_WORDS[(shape - Shape.SLAB_FIRST) as SlabClass];
      if (page < size)
        this.#setLeaf(this.#slabs.words(word), this.#slabs.offset(word) + page, size);
    }
  }

  #findInTree(tree: Tree, page: number): void {
    const number = Math.floor(page / DIRECTORY_PAGES);
    if (number >= tree.directories.length) return;
    const directory = tree.directories[number];
    const chunk = Math.floor(page / CHUNK_PAGES) % DIRECTORY_CHUNKS;
    if (directory === undefined || chunk >= directory.chunks.length) {
      this.#leafEnd = (number + 1) * DIRECTORY_PAGES;
      return;
    }
    const end = (Math.floor(page / CHUNK_PAGES) + 1) * CHUNK_PAGES;
    const handle = (directory.chunks[chunk] as number) - 1;
    this.#leafEnd = end;
    if (handle === -1) return;
    const at = this.#slabs.offset(handle) + (page % CHUNK_PAGES);
    this.#setLeaf(this.#slabs.words(handle), at, end);
  }

  #setLeaf(leaf: Uint32Array, at: number, end: number): void {
    this.#leaf = leaf;
    this.#leafAt = at;
    this.#leafEnd = end;
  }

  /** Finds the leaf of a page, made if need be. */
  #make(file: number, page: number): void {
    if (file >= this.#words.length) this.#growFiles(file);
    this.#find(file, page);
    if (this.#leaf !== undefined) return;
    let shape: number = Shape.SLAB_FIRST;
    while (shape <= Shape.SLAB_LAST && page >= SLAB_WORDS[(shape - 1) as SlabClass]) shape += 1;
    // An empty file of one page far out is a tree at once; a tree stays one until it is empty.
    if (this.#shapes[file] !== Shape.TREE) this.#reshape(file, shape);
    this.#find(file, page);
    if (this.#leaf !== undefined) return;
    this.#makeChunk(this.#trees[this.#words[file] as number] as Tree, page);
    this.#find(file, page);
  }

  /** Moves what a small file has into a bigger shape. */
  #reshape(file: number, shape: number): void {
    const oldShape = this.#shapes[file] as number;
    const oldWord = this.#words[file] as number;
    const isOne = oldShape === Shape.ONE;
    const size = isOne ? 1 : SLAB_WORDS[(oldShape - Shape.SLAB_FIRST) as SlabClass];
    const words = isOne ? this.#words : this.#slabs.words(oldWord);
    const offset = isOne ? file : this.#slabs.offset(oldWord);
    const pages = words.slice(offset, offset + size);
    if (!isOne) this.#slabs.give(oldWord);
    this.#shapes[file] = shape;
    if (shape === Shape.TREE) {
      this.#words[file] = this.#takeTree();
      const tree = this.#trees[this.#words[file]] as Tree;
      if (pages.every((page) => page === 0)) return;
      this.#makeChunk(tree, 0);
      this.#find(file, 0);
      (this.#leaf as Uint32Array).set(pages, this.#leafAt);
      this.#count(file, 0, pages.filter((page) => page !== 0).length);
    } else {
      const handle = this.#slabs.take((shape - Shape.SLAB_FIRST) as SlabClass);
      this.#words[file] = handle;
      this.#slabs.words(handle).set(pages, this.#slabs.offset(handle));
    }
  }

  #takeTree(): number {
    const number = this.#freeTrees.pop() ?? this.#trees.length;
    this.#trees[number] = { directories: [], pageCount: 0 };
    return number;
  }

  #makeChunk(tree: Tree, page: number): void {
    const number = Math.floor(page / DIRECTORY_PAGES);
    const chunk = Math.floor(page / CHUNK_PAGES) % DIRECTORY_CHUNKS;
    while (tree.directories.length <= number) tree.directories.push(undefined);
    const directory = (tree.directories[number] ??= {
      chunks: new Uint32Array(0),
      counts: new Uint16Array(0),
      chunkCount: 0,
    });
    if (chunk >= directory.chunks.length) {
      const length = Math.max(4, 2 ** Math.ceil(Math.log2(chunk + 1)));
      const { chunks, counts } = directory;
      directory.chunks = new Uint32Array(length);
      directory.chunks.set(chunks);
      directory.counts = new Uint16Array(length);
      directory.counts.set(counts);
    }
    directory.chunks[chunk] = this.#slabs.take(CHUNK_CLASS) + 1;
    directory.chunkCount += 1;
  }

  /** Pages came to the leaf of `page` or left it; what is empty goes. */
  #count(file: number, page: number, change: number): void {
    const shape = this.#shapes[file] as number;
    const word = this.#words[file] as number;
    if (shape === Shape.ONE) return;
    if (shape !== Shape.TREE) {
      if (change > 0 || this.filePageCount(file) > 0) return;
      this.#slabs.give(word);
      this.#empty(file);
      return;
    }
    const tree = this.#trees[word] as Tree;
    const number = Math.floor(page / DIRECTORY_PAGES);
    const directory = tree.directories[number] as Directory;
    const chunk = Math.floor(page / CHUNK_PAGES) % DIRECTORY_CHUNKS;
    const count = (directory.counts[chunk] as number) + change;
    directory.counts[chunk] = count;
    tree.pageCount += change;
    if (count > 0) return;
    this.#slabs.give((directory.chunks[chunk] as number) - 1);
    directory.chunks[chunk] = 0;
    directory.chunkCount -= 1;
    if (directory.chunkCount === 0) tree.directories[number] = undefined;
    while (tree.directories.length > 0 && tree.directories.at(-1) === undefined) {
      tree.directories.pop();
    }
    if (tree.directories.length > 0) return;
    this.#trees[word] = undefined;
    this.#freeTrees.push(word);
    this.#empty(file);
  }

  #empty(file: number): void {
    this.#shapes[file] = Shape.ONE;
    this.#words[file] = 0;
  }

  #growFiles(file: number): void {
    const length = 2 ** Math.ceil(Math.log2(file + 1));
    const shapes = new Uint8Array(length);
    shapes.set(this.#shapes);
    this.#shapes = shapes;
    const words = new Uint32Array(length);
    words.set(this.#words);
    this.#words = words;
  }
}
