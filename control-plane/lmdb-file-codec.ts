/**
 * The data file of lmdb, as far as it takes to tell a whole one from a damaged one: lmdb itself trusts its
 * file, and ends the process when that is cut off or overwritten. So before it is opened the newest of the
 * two meta pages is read, and from there every page that is in use is looked at: that it is in the file,
 * is what it says, and points only to where such a page may point.
 *
 * LMDB 0.9.90 as lmdb 3 builds it (`mdb.c`); numbers in the byte order of the machine, which is taken to
 * be little-endian. Pure and total: any bytes give a size or `ERR_CONTROL_STORE`.
 *
 *   page (MDB_page_header)   0 u64 its number   8 u64 transaction   18 u16 flags   20 u16 lower   22 u16 upper
 *                            24 u16 offsets of nodes, from byte 24; `lower` is their size
 *   meta (MDB_meta)          24 u32 magic   28 u32 version   48 u32 page size   144 u64 last page
 *                            152 u64 transaction; trees of free pages and of data at 48 and 96:
 *   tree (MDB_db)            6 u16 depth   40 u64 root page, all ones when it is empty
 *   node (MDB_node)          0 u16, 2 u16, 4 u16: page of a branch, or u32 data size and u16 flags
 *                            6 u16 key size   8 key, data; large data: u64 its first page, u64, u64 pages
 */
import { storeError } from './meta-checks.ts';

/** Reads `lengthBytes` at `offsetBytes` of the file; fewer at its end. */
export type ReadLmdb = (offsetBytes: number, lengthBytes: number) => Buffer;

const MAGIC = 0xbeefc0de;
const DATA_VERSION = 2;
const PAGE_SIZES_BYTES: readonly number[] = [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536];
const PAGE_HEADER_SIZE_BYTES = 24;
const META_SIZE_BYTES = 160;
const NODE_HEADER_SIZE_BYTES = 8;
const OVERFLOW_SIZE_BYTES = 24;
const NO_PAGE = 2n ** 64n - 1n;
const META_COUNT = 2;
/** Offsets of the trees in a meta page. */
const TREE_OFFSETS = [48, 96] as const;

const P_BRANCH = 0x01;
const P_LEAF = 0x02;
const P_OVERFLOW = 0x04;
const P_META = 0x08;
const F_BIGDATA = 0x01;

function fail(problem: string): never {
  throw storeError(`the embedded store is damaged: ${problem}`);
}

interface Tree {
  readonly depth: number;
  readonly root: bigint;
}

interface Meta {
  readonly pageSizeBytes: number;
  readonly pageCount: number;
  readonly transaction: bigint;
  readonly trees: readonly Tree[];
}

function decodeMeta(page: Buffer): Meta {
  if (page.length < META_SIZE_BYTES) fail('its file is cut off');
  const isMeta = (page.readUInt16LE(18) & P_META) !== 0;
  if (!isMeta || page.readUInt32LE(24) !== MAGIC) fail('its file is none of lmdb');
  const version = page.readUInt32LE(28) & 0xffff;
  if (version !== DATA_VERSION) {
    fail(`its file has version ${version} of lmdb's layout, expected ${DATA_VERSION}`);
  }
  const pageSizeBytes = page.readUInt32LE(48);
  if (!PAGE_SIZES_BYTES.includes(pageSizeBytes)) fail(`its pages have ${pageSizeBytes} bytes`);
  const pageCount = page.readBigUInt64LE(144) + 1n;
  if (pageCount * BigInt(pageSizeBytes) > BigInt(Number.MAX_SAFE_INTEGER)) {
    fail(`it has ${pageCount} pages`);
  }
  return {
    pageSizeBytes,
    pageCount: Number(pageCount),
    transaction: page.readBigUInt64LE(152),
    trees: TREE_OFFSETS.map((offset) => ({
      depth: page.readUInt16LE(offset + 6),
      root: page.readBigUInt64LE(offset + 40),
    })),
  };
}

/**
 * Looks at all pages of a data file that are in use.
 *
 * @returns the size that its pages reach up to, bytes; the file may be shorter by pages that are free
 * @throws MemcloudError `ERR_CONTROL_STORE`
 */
export function checkLmdbFile(read: ReadLmdb): number {
  const first = decodeMeta(read(0, META_SIZE_BYTES));
  const second = decodeMeta(read(first.pageSizeBytes, META_SIZE_BYTES));
  const meta = second.transaction > first.transaction ? second : first;
  if (meta.pageSizeBytes !== first.pageSizeBytes) fail('its meta pages differ in page size');
  const pages = new Pages(read, meta);
  for (const { depth, root } of meta.trees) if (root !== NO_PAGE) pages.checkTree(root, depth);
  return meta.pageCount * meta.pageSizeBytes;
}

class Pages {
  readonly #read: ReadLmdb;
  readonly #meta: Meta;
  /** Pages looked at: each is used once, so there are no more than the file has. */
  #count = 0;

  constructor(read: ReadLmdb, meta: Meta) {
    this.#read = read;
    this.#meta = meta;
  }

  /** Looks at the page, and at `depth` - 1 levels of pages below it. */
  checkTree(number: bigint, depth: number): void {
    const page = this.#page(number, 1);
    const lower = page.readUInt16LE(20);
    const size = page.length - PAGE_HEADER_SIZE_BYTES;
    if (page.readUInt16LE(18) !== (depth > 1 ? P_BRANCH : P_LEAF))
      fail('a page is of another kind');
    if (depth < 1 || lower % 2 !== 0 || lower === 0 || lower > page.readUInt16LE(22)) {
      fail('a page has no nodes');
    }
    if (page.readUInt16LE(22) > size) fail('a page has nodes beyond its end');
    for (let at = 0; at < lower; at += 2) {
      const offset = page.readUInt16LE(PAGE_HEADER_SIZE_BYTES + at);
      if (offset < lower || offset + NODE_HEADER_SIZE_BYTES > size)
        fail('a node is out of its page');
      const node = page.subarray(PAGE_HEADER_SIZE_BYTES + offset);
      if (NODE_HEADER_SIZE_BYTES + node.readUInt16LE(6) > node.length)
        fail('a key is out of its page');
      if (depth > 1) this.checkTree(childOf(node), depth - 1);
      else this.#checkData(node);
    }
  }

  #checkData(node: Buffer): void {
    const data = node.subarray(NODE_HEADER_SIZE_BYTES + node.readUInt16LE(6));
    const sizeBytes = node.readUInt32LE(0);
    if (node.readUInt16LE(4) === 0) {
      if (sizeBytes > data.length) fail('a value is out of its page');
      return;
    }
    if (node.readUInt16LE(4) !== F_BIGDATA || data.length < OVERFLOW_SIZE_BYTES) {
      fail('a value is of a kind that is not used');
    }
    const pageCount = Number(data.readBigUInt64LE(16));
    const room = pageCount * this.#meta.pageSizeBytes - PAGE_HEADER_SIZE_BYTES;
    if (pageCount < 1 || sizeBytes > room) fail('a value is longer than its pages');
    const page = this.#page(data.readBigUInt64LE(0), pageCount);
    if (page.readUInt16LE(18) !== P_OVERFLOW) fail('a page is of another kind');
  }

  /** Reads a page, the first of `count`; all of them have to be there. */
  #page(number: bigint, count: number): Buffer {
    const { pageCount, pageSizeBytes } = this.#meta;
    this.#count += count;
    if (this.#count > pageCount) fail('pages are used twice');
    if (number < META_COUNT || number + BigInt(count) > BigInt(pageCount)) {
      fail(`page ${number} is none of it`);
    }
    const offsetBytes = Number(number) * pageSizeBytes;
    const last = this.#read(offsetBytes + count * pageSizeBytes - 1, 1);
    const page = this.#read(offsetBytes, pageSizeBytes);
    if (last.length < 1 || page.length < pageSizeBytes) fail('its file is cut off');
    if (page.readBigUInt64LE(0) !== number) fail(`page ${number} has been overwritten`);
    return page;
  }
}

function childOf(node: Buffer): bigint {
  return BigInt(node.readUInt32LE(0)) + (BigInt(node.readUInt16LE(4)) << 32n);
}
