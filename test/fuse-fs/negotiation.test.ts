import t from 'tap';
import { FUSE_PROFILES, negotiate, type FuseProfile } from '../../fuse-fs/negotiation.ts';
import type { InitOut } from '../../fuse-fs/reply-codec.ts';

const ALL = 0xffff_ffff;
const KERNEL = { major: 7, minor: 45, maxReadahead: 131072, flags: ALL, flags2: ALL };
/** Bits of fuse.h, restated. */
const BIT = {
  asyncRead: 0,
  posixLocks: 1,
  atomicTruncate: 3,
  exportSupport: 4,
  bigWrites: 5,
  dontMask: 6,
  flockLocks: 10,
  autoInvalidate: 12,
  readdirplus: 13,
  readdirplusAuto: 14,
  asyncDirect: 15,
  writeback: 16,
  noOpen: 17,
  parallelDirectories: 18,
  posixAcl: 20,
  maxPages: 22,
  explicitInvalidate: 25,
  killPrivV2: 28,
  setxattrExt: 29,
  initExt: 30,
};

function agreed(kernel = KERNEL, profile: FuseProfile = FUSE_PROFILES.default): InitOut {
  const verdict = negotiate(kernel, profile);
  if (verdict.kind !== 'agreed') throw new Error(verdict.kind);
  return verdict.reply;
}

const has = (reply: InitOut, bit: number): boolean => Math.floor(reply.flags / 2 ** bit) % 2 === 1;

t.test('of two minor versions the smaller holds', async (t) => {
  for (const [minor, ours] of [
    [23, 23],
    [31, 31],
    [45, 45],
    [46, 45],
    [1000, 45],
  ] as const) {
    t.equal(agreed({ ...KERNEL, minor }).minor, ours);
  }
});

t.test(
  'a kernel too old is refused, one of a later major version asked to try again',
  async (t) => {
    t.equal(negotiate({ ...KERNEL, minor: 22 }, FUSE_PROFILES.default).kind, 'refused');
    t.equal(negotiate({ ...KERNEL, major: 6 }, FUSE_PROFILES.default).kind, 'refused');
    const verdict = negotiate({ ...KERNEL, major: 8, minor: 0 }, FUSE_PROFILES.default);
    t.match(verdict, { kind: 'again', reply: { major: 7, minor: 45, flags: 0 } });
  },
);

t.test('nothing is agreed that the kernel does not offer', async (t) => {
  t.equal(agreed({ ...KERNEL, flags: 0 }).flags, 0);
  t.equal(agreed({ ...KERNEL, flags: 0 }).flags2, 0, 'no second word without INIT_EXT');
  for (let bit = 0; bit < 32; bit += 1) {
    const reply = agreed({ ...KERNEL, flags: 2 ** bit });
    t.ok(reply.flags === 0 || reply.flags === 2 ** bit, `bit ${bit}`);
  }
  t.equal(agreed({ ...KERNEL, flags2: 0 }).flags2, 0);
});

t.test('requests of 1 MiB where the kernel can, of 128 KiB where not', async (t) => {
  t.match(agreed(), { maxWrite: 1048576, maxPages: 256, maxBackground: 64, timeGranularity: 1 });
  t.match(agreed({ ...KERNEL, flags: 0 }), { maxWrite: 131072, maxPages: 0 });
});

t.test('the default profile', async (t) => {
  const reply = agreed();
  for (const bit of [
    BIT.asyncRead,
    BIT.bigWrites,
    BIT.dontMask,
    BIT.readdirplus,
    BIT.readdirplusAuto,
    BIT.asyncDirect,
    BIT.writeback,
    BIT.parallelDirectories,
    BIT.posixAcl,
    BIT.maxPages,
    BIT.explicitInvalidate,
    BIT.killPrivV2,
    BIT.setxattrExt,
    BIT.initExt,
  ]) {
    t.ok(has(reply, bit), `bit ${bit}`);
  }
  // Locks stay in the kernel, data is not dropped by itself.
  for (const bit of [BIT.posixLocks, BIT.flockLocks, BIT.exportSupport, BIT.autoInvalidate]) {
    t.notOk(has(reply, bit), `bit ${bit}`);
  }
  t.equal(reply.flags2, 2 ** (36 - 32), 'shared mappings beside direct I/O, and no more');
});

t.test('build-cache: no writeback, no attributes', async (t) => {
  const reply = agreed(KERNEL, FUSE_PROFILES['build-cache']);
  for (const bit of [BIT.writeback, BIT.posixAcl, BIT.setxattrExt]) {
    t.notOk(has(reply, bit), `bit ${bit}`);
  }
  t.ok(has(reply, BIT.dontMask));
});

t.test('who is not told of opens is not asked to truncate by them', async (t) => {
  for (const openless of [true, false]) {
    const profile = { ...FUSE_PROFILES.default, openless };
    const reply = agreed(KERNEL, profile);
    t.equal(has(reply, BIT.noOpen), openless);
    t.equal(has(reply, BIT.atomicTruncate), !openless);
    const old = agreed({ ...KERNEL, flags: ALL - 2 ** BIT.noOpen }, profile);
    t.notOk(has(old, BIT.noOpen));
  }
});
