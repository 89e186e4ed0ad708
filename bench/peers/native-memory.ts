#!/usr/bin/env node
/**
 * fuse-native as people use it: a simple file system in memory on its own interface, with the caches
 * that it offers turned on. `native-memory DIR` serves until DIR is unmounted.
 */
import {
  loadFuseNative,
  type NativeOperations,
  type NativeReply,
  type NativeStat,
} from '../../fuse-fs/native-binding.ts';
import { Errno } from '../../fuse-fs/errno.ts';

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
const BUFFER_SIZE_MIN = 4096;
/** As long as the package can be told: a day. */
const TIMEOUT_S = '86400';
const UNCHANGED_ID = 0xffffffff;
const FREE_BLOCKS = 2 ** 24;

class Node {
  mode: number;
  uid = process.getuid?.() ?? 0;
  gid = process.getgid?.() ?? 0;
  size = 0;
  linkCount = 1;
  rdev = 0;
  readonly ino: number;
  accessed = Date.now();
  modified = Date.now();
  changed = Date.now();
  bytes = Buffer.alloc(0);
  target = '';
  readonly children: Map<string, Node> | undefined;

  constructor(ino: number, mode: number) {
    this.ino = ino;
    this.mode = mode;
    if ((mode & S_IFMT) === S_IFDIR) {
      this.children = new Map();
      this.linkCount = 2;
    }
  }
}

const root = new Node(1, S_IFDIR | 0o755);
const handles = new Map<number, Node>();
let lastInode = 1;
let lastHandle = 0;

function find(path: string): Node | undefined {
  let node: Node | undefined = root;
  for (const name of path.split('/')) if (name !== '') node = node?.children?.get(name);
  return node;
}

function parentOf(path: string): { parent: Node | undefined; name: string } {
  const at = path.lastIndexOf('/');
  return { parent: find(path.slice(0, at)), name: path.slice(at + 1) };
}

function make(path: string, mode: number): Node | number {
  const { parent, name } = parentOf(path);
  if (parent?.children === undefined) return -Errno.ENOENT;
  if (parent.children.has(name)) return -Errno.EEXIST;
  lastInode += 1;
  const node = new Node(lastInode, mode);
  parent.children.set(name, node);
  parent.modified = parent.changed = Date.now();
  return node;
}

function statOf(node: Node): NativeStat {
  return {
    ...{ mode: node.mode, uid: node.uid, gid: node.gid, size: node.size, nlink: node.linkCount },
    ...{ ino: node.ino, rdev: node.rdev, blksize: 4096, blocks: Math.ceil(node.size / 512) },
    ...{ atime: node.accessed, mtime: node.modified, ctime: node.changed },
  };
}

function open(node: Node): number {
  lastHandle += 1;
  handles.set(lastHandle, node);
  return lastHandle;
}

function resize(node: Node, size: number): void {
  if (size > node.bytes.length) {
    const grown = Buffer.alloc(Math.max(size, node.bytes.length * 2, BUFFER_SIZE_MIN));
    node.bytes.copy(grown, 0, 0, node.size);
    node.bytes = grown;
  } else if (size < node.size) node.bytes.fill(0, size, node.size);
  node.size = size;
  node.modified = node.changed = Date.now();
}

/** Does `work` on the node at `path`, or answers that there is none. */
function on(path: string, reply: NativeReply, work: (node: Node) => void): void {
  const node = find(path);
  if (node === undefined) reply(-Errno.ENOENT);
  else work(node);
}

function remove(path: string, reply: NativeReply, isDirectory: boolean): void {
  const { parent, name } = parentOf(path);
  const node = parent?.children?.get(name);
  if (parent?.children === undefined || node === undefined) return reply(-Errno.ENOENT);
  if ((node.children !== undefined) !== isDirectory) return reply(-Errno.EISDIR);
  if ((node.children?.size ?? 0) > 0) return reply(-Errno.ENOTEMPTY);
  parent.children.delete(name);
  parent.modified = parent.changed = Date.now();
  node.linkCount -= 1;
  reply(0);
}

function ended(reply: NativeReply, made: Node | number): Node | undefined {
  if (typeof made === 'number') reply(made);
  return typeof made === 'number' ? undefined : made;
}

const operations: Partial<NativeOperations> = {
  getattr: (path, reply) => on(path, reply, (node) => reply(0, statOf(node))),
  readdir: (path, reply) => on(path, reply, (node) => reply(0, [...(node.children?.keys() ?? [])])),
  readlink: (path, reply) => on(path, reply, (node) => reply(0, node.target)),
  statfs: (_path, reply) => {
    const [bsize, blocks] = [4096, FREE_BLOCKS];
    const files = { files: blocks, ffree: blocks, favail: blocks };
    reply(0, {
      bsize,
      frsize: bsize,
      blocks,
      bfree: blocks,
      bavail: blocks,
      ...files,
      namemax: 255,
    });
  },
  mknod: (path, mode, rdev, reply) => {
    const node = ended(reply, make(path, mode));
    if (node === undefined) return;
    node.rdev = rdev;
    reply(0);
  },
  mkdir: (path, mode, reply) => {
    if (ended(reply, make(path, S_IFDIR | (mode & ~S_IFMT))) !== undefined) reply(0);
  },
  unlink: (path, reply) => remove(path, reply, false),
  rmdir: (path, reply) => remove(path, reply, true),
  symlink: (target, path, reply) => {
    const node = ended(reply, make(path, S_IFLNK | 0o777));
    if (node === undefined) return;
    node.target = target;
    node.size = Buffer.byteLength(target);
    reply(0);
  },
  rename: (from, to, reply) => {
    const [source, sink] = [parentOf(from), parentOf(to)];
    const node = source.parent?.children?.get(source.name);
    if (node === undefined || sink.parent?.children === undefined) return reply(-Errno.ENOENT);
    source.parent?.children?.delete(source.name);
    sink.parent.children.set(sink.name, node);
    reply(0);
  },
  link: (from, to, reply) =>
    on(from, reply, (node) => {
      const { parent, name } = parentOf(to);
      if (parent?.children === undefined) return reply(-Errno.ENOENT);
      parent.children.set(name, node);
      node.linkCount += 1;
      reply(0);
    }),
  chmod: (path, mode, reply) =>
    on(path, reply, (node) => {
      node.mode = (node.mode & S_IFMT) | (mode & ~S_IFMT);
      reply(0);
    }),
  chown: (path, uid, gid, reply) =>
    on(path, reply, (node) => {
      if (uid !== UNCHANGED_ID) node.uid = uid;
      if (gid !== UNCHANGED_ID) node.gid = gid;
      reply(0);
    }),
  utimens: (path, accessMs, modifyMs, reply) =>
    on(path, reply, (node) => {
      node.accessed = accessMs;
      node.modified = modifyMs;
      reply(0);
    }),
  truncate: (path, size, reply) =>
    on(path, reply, (node) => {
      resize(node, size);
      reply(0);
    }),
  ftruncate: (_path, fh, size, reply) => {
    const node = handles.get(fh);
    if (node !== undefined) resize(node, size);
    reply(node === undefined ? -Errno.EBADF : 0);
  },
  create: (path, mode, reply) => {
    const node = ended(reply, make(path, S_IFREG | (mode & ~S_IFMT)));
    if (node !== undefined) reply(0, open(node));
  },
  open: (path, _flags, reply) => on(path, reply, (node) => reply(0, open(node))),
  release: (_path, fh, reply) => {
    handles.delete(fh);
    reply(0);
  },
  read: (_path, fh, into, length, offset, reply) => {
    const node = handles.get(fh);
    if (node === undefined) return reply(-Errno.EBADF);
    const end = Math.min(offset + length, node.size);
    reply(offset < end ? node.bytes.copy(into, 0, offset, end) : 0);
  },
  write: (_path, fh, from, length, offset, reply) => {
    const node = handles.get(fh);
    if (node === undefined) return reply(-Errno.EBADF);
    if (offset + length > node.size) resize(node, offset + length);
    from.copy(node.bytes, offset, 0, length);
    node.modified = node.changed = Date.now();
    reply(length);
  },
  fsync: (_path, _dataOnly, _fh, reply) => reply(0),
};

const [directory = ''] = process.argv.slice(2);
const FuseNative = loadFuseNative();
const mount = new FuseNative(directory, operations as NativeOperations, {
  allowOther: true,
  defaultPermissions: true,
  kernelCache: true,
  entryTimeout: TIMEOUT_S,
  attrTimeout: TIMEOUT_S,
});
mount.mount((error) => {
  if (error !== null) {
    process.stderr.write(`native-memory: ${error.message}\n`);
    process.exit(1);
  }
  process.stdout.write('mounted\n');
});
process.once('SIGTERM', () => process.exit(0));
