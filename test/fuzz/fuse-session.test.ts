/**
 * Any bytes as a request: a session answers each once (or never, where there is no reply), never throws,
 * and leaves nothing behind. Half of the requests are what a kernel could send, with numbers from the
 * edges, the rest are those after mutation.
 */
import t from 'tap';
import { FuseRequest } from '../../fuse-fs/codec.ts';
import { FUSE_PROFILES } from '../../fuse-fs/negotiation.ts';
import { TransferBuffer } from '../../fuse-fs/transfer-buffer.ts';
import { FileSystemRig } from '../helpers/file-system-rig.ts';
import { AT, FakeKernel, initRequest, name, request, u32, u64 } from '../helpers/fuse-requests.ts';
import { fuzz, type Random } from '../helpers/fuzz.ts';

/** FORGET, INTERRUPT, NOTIFY_REPLY, BATCH_FORGET. */
const SILENT = new Set([2, 36, 41, 42]);
const INIT = 26;
const NUMBERS = [0n, 1n, 2n, 3n, 5n, 4095n, 4096n, 4097n, 65536n, 2n ** 20n, 2n ** 31n, 2n ** 32n];
const HUGE = [
  2n ** 43n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 62n,
  2n ** 63n - 1n,
  2n ** 63n,
  2n ** 64n - 1n,
];
const NAMES = [
  'a',
  'b',
  'c',
  'd',
  'dir',
  '',
  '.',
  '..',
  'a/b',
  'n'.repeat(255),
  'n'.repeat(256),
  '\xff\x01',
];
const XATTRS = [
  'user.a',
  'user.b',
  'security.capability',
  'system.posix_acl_access',
  'trusted.x',
  'nonsense',
];

function number(random: Random): bigint {
  return random.below(12) === 0 ? random.pick(HUGE) : random.pick(NUMBERS);
}

function word(random: Random): number {
  return random.below(4) === 0 ? random.below(2 ** 32) : random.below(64);
}

function mode(random: Random): number {
  const type = random.pick([
    0, 0o010000, 0o020000, 0o040000, 0o060000, 0o100000, 0o120000, 0o140000,
  ]);
  return type | random.below(0o10000);
}

/** The body of a request that a kernel could send. */
function bodyOf(opcode: number, random: Random): Buffer[] {
  const some = (): Buffer => name(random.pick(NAMES));
  const n = (): bigint => number(random);
  const w = (): number => word(random);
  switch (opcode) {
    case 1:
    case 10:
    case 11:
      return [some()];
    case 2:
      return [u64(random.below(3))];
    case 3:
      return [Buffer.alloc(16)];
    case 4: {
      const nanoseconds = random.below(10 ** 9);
      return [
        u32(random.below(4096), 0),
        u64(0, n(), 0, n(), n(), n()),
        u32(nanoseconds, nanoseconds, nanoseconds, mode(random), 0, w(), w(), 0),
      ];
    }
    case 6:
      return [some(), name(random.pick(['target', '', 't'.repeat(4095)]))];
    case 8:
      return [u32(mode(random), w(), random.below(512), 0), some()];
    case 9:
      return [u32(mode(random), random.below(512)), some()];
    case 12:
      return [u64(random.below(8)), some(), some()];
    case 13:
      return [u64(random.below(8)), some()];
    case 14:
    case 27:
      return [u32(random.pick([0, 1, 2, 0o1002]), random.below(2))];
    case 15:
    case 28:
    case 44:
      return [
        u64(random.below(4), n()),
        u32(random.pick([0, 100, 4096, 65536, 2 ** 20, 2 ** 31]), 0),
        Buffer.alloc(16),
      ];
    case 16: {
      const data = random.bytes(random.pick([0, 1, 100, 4096, 5000]));
      return [u64(0, n()), u32(data.length, random.below(8)), Buffer.alloc(16), data];
    }
    case 18:
    case 29:
    case 25:
      return [u64(random.below(4)), Buffer.alloc(16)];
    case 20:
    case 30:
      return [u64(random.below(4)), Buffer.alloc(8)];
    case 21: {
      const value = random.bytes(random.pick([0, 1, 4, 28, 300]));
      return [
        u32(value.length, random.below(4), random.below(2), 0),
        name(random.pick(XATTRS)),
        value,
      ];
    }
    case 22:
      return [u32(random.pick([0, 1, 300, 65536]), 0), name(random.pick(XATTRS))];
    case 23:
      return [u32(random.pick([0, 1, 300, 65536]), 0)];
    case 24:
      return [name(random.pick(XATTRS))];
    case 35:
    case 51:
      return [u32(2, mode(random), random.below(512), random.below(2)), some()];
    case 36:
      return [u64(random.below(100))];
    case 42:
      return [u32(2, 0), u64(random.below(8), random.below(3), random.below(8), random.below(3))];
    case 43:
      return [u64(0, n(), n()), u32(random.pick([0, 1, 2, 3, 16, 17, 8, 64]), 0)];
    case 45:
      return [u64(random.below(8)), u32(random.below(8), 0), some(), some()];
    case 46:
      return [u64(0, n()), u32(random.below(6), 0)];
    case 47:
    case 53:
      return [u64(0, n(), random.below(8), 0, n(), n(), random.below(20) === 0 ? 1 : 0)];
    default:
      return [random.bytes(random.below(80))];
  }
}

t.test('a request of any bytes is decoded or gets an errno', async (t) => {
  const buffer = new TransferBuffer();
  t.teardown(() => buffer.free());
  const reader = new FuseRequest();
  const decoders = Object.getOwnPropertyNames(FuseRequest.prototype).filter(
    (key) => key.startsWith('decode') && key !== 'decodeForgetItem',
  ) as 'decodeName'[];
  t.ok(decoders.length > 25);
  await fuzz(t, (random) => {
    const opcode = random.below(56);
    const whole = request(opcode, { nodeid: number(random) }, ...bodyOf(opcode, random));
    const bytes = random.mutate(whole).subarray(0, 100_000);
    buffer.bytes.fill(random.below(256), AT, AT + 6000);
    bytes.copy(buffer.bytes, AT);
    const begun = reader.begin(buffer, AT, bytes.length);
    if (begun !== 0 && begun !== -22 && begun !== -116) throw new Error(`errno ${begun}`);
    if (begun !== 0) return;
    for (const decoder of decoders) {
      const result = reader[decoder]();
      if (!Number.isInteger(result) || result > 0 || result < -133) {
        throw new Error(`${decoder}: ${result}`);
      }
    }
  });
});

t.test('one reply for each request, and nothing left behind', async (t) => {
  await fuzz(t, (random) => {
    const kernel = new FakeKernel(FUSE_PROFILES[random.pick(['default', 'build-cache'] as const)]);
    const rig = new FileSystemRig({ sizeBytes: 2 ** 24 }, { pageCount: 2 ** 12 });
    rig.fs.connect(kernel.session);
    kernel.session.attach(rig.fs);
    kernel.ask(initRequest());
    const expected = new Set<bigint>();
    for (let step = 0; step < 300; step += 1) {
      const opcode = 1 + random.below(55);
      const unique = step * 2 + 2;
      const nodeid = random.below(10) === 0 ? number(random) : random.below(8);
      const header = { unique, nodeid, uid: random.below(2), gid: random.below(2) };
      const whole = request(opcode, header, ...bodyOf(opcode, random));
      const bytes = (random.below(2) === 0 ? whole : random.mutate(whole)).subarray(0, 200_000);
      const before = kernel.replies.length;
      kernel.send(bytes);
      for (const each of kernel.writeBacks.splice(0)) each.done();
      const replies = kernel.replies.slice(before);
      if (bytes.length < 40) {
        if (replies.length > 0) throw new Error('a reply to no request');
        continue;
      }
      const silent = SILENT.has(bytes.readUInt32LE(4));
      if (replies.length !== (silent ? 0 : 1)) {
        throw new Error(`opcode ${bytes.readUInt32LE(4)}: ${replies.length} replies`);
      }
      const [reply] = replies;
      if (reply === undefined) continue;
      if (reply.unique !== bytes.readBigUInt64LE(8))
        throw new Error('the answer to another request');
      if (reply.error > 0 || reply.error < -133) throw new Error(`error ${reply.error}`);
      if (reply.error !== 0 && reply.body.length > 0) throw new Error('an error with data');
      if (bytes.readUInt32LE(4) !== INIT) expected.add(reply.unique);
    }
    const { defectCount } = kernel.session.statistics;
    if (defectCount > 0) throw new Error(`${defectCount} defects: ${kernel.logged.join()}`);
    if (kernel.session.waitingCount > 0) throw new Error('requests are left');
    kernel.session.close();
    kernel.free();
  });
});
