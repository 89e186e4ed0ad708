import fc from 'fast-check';
import t from 'tap';
import { IoStatus } from '../../common/ports.ts';
import { ReplyMode, RequestHeader } from '../../nbd-server/message-codec.ts';
import {
  ioStatusToNbdError,
  isDisconnect,
  validateBlockStatus,
  validateRequest,
  type TransmissionTerms,
} from '../../nbd-server/transmission.ts';
import { testSeed } from '../helpers/nbd-fixture.ts';

const seed = testSeed();
t.comment(`SEED=${seed}`);

const SIZE = 100 * 2 ** 20;
const MIB = 2 ** 20;
const [READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS] = [0, 1, 2, 3, 4, 5, 6, 7];
const [FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN] = [1, 2, 4, 8, 16, 32];
const [OK, EPERM, EINVAL, ENOSPC, EOVERFLOW] = [0, 1, 22, 28, 75];

const simple: TransmissionTerms = {
  sizeBytes: SIZE,
  readOnly: false,
  mode: ReplyMode.SIMPLE,
  allocationContext: false,
};
const structured = { ...simple, mode: ReplyMode.STRUCTURED, allocationContext: true };
const extended = { ...structured, mode: ReplyMode.EXTENDED };
const readOnly = { ...structured, readOnly: true };

function header(command: number, flags: number, offset: number, length: number): RequestHeader {
  return Object.assign(new RequestHeader(), { command, flags, offset, length });
}

const CASES: [string, TransmissionTerms, number, number, number, number, number][] = [
  // fact, terms, command, flags, offset, length, error
  ['a read at the very end', simple, READ, 0, SIZE - 1, 1, OK],
  ['a read one byte past the end', simple, READ, 0, SIZE - 1, 2, EINVAL],
  ['a write one byte past the end', simple, WRITE, 0, SIZE - 1, 2, ENOSPC],
  ['zeroes past the end', simple, ZEROES, 0, SIZE, 1, ENOSPC],
  ['a trim past the end', simple, TRIM, 0, SIZE, 1, EINVAL],
  ['a cache past the end', simple, CACHE, 0, SIZE, 1, EINVAL],
  ['a block status past the end', structured, STATUS, 0, SIZE - 1, 2, EINVAL],
  ['a read at 2^63', simple, READ, 0, 2 ** 63, 1, EINVAL],
  ['a write at 2^64 - 512', simple, WRITE, 0, 2 ** 64 - 512, 512, ENOSPC],
  ['an extended trim of 2^63', extended, TRIM, 0, 0, 2 ** 63, EINVAL],
  ['extended zeroes of 2^63', extended, ZEROES, 0, 0, 2 ** 63, ENOSPC],
  ['a read of nothing', simple, READ, 0, 0, 0, OK],
  ['a read of nothing at the end', simple, READ, 0, SIZE, 0, OK],
  ['a read of nothing past the end', simple, READ, 0, SIZE + 1, 0, EINVAL],
  ['a write of nothing', simple, WRITE, 0, 0, 0, OK],
  ['a block status of nothing', structured, STATUS, 0, 0, 0, EINVAL],
  ['a read of the greatest payload', simple, READ, 0, 0, 32 * MIB, OK],
  ['a read over the greatest payload', simple, READ, 0, 0, 32 * MIB + 1, EINVAL],
  ['the same with DF', structured, READ, DF, 0, 32 * MIB + 1, EOVERFLOW],
  ['a write over the greatest payload', simple, WRITE, 0, 0, 32 * MIB + 1, EINVAL],
  ['a trim over the greatest payload', simple, TRIM, 0, 0, SIZE, OK],
  ['zeroes over the greatest payload', simple, ZEROES, NO_HOLE, 0, SIZE, OK],
  ['a write to a read-only export', readOnly, WRITE, 0, 0, 1, EPERM],
  ['a trim of a read-only export', readOnly, TRIM, 0, 0, 1, EPERM],
  ['zeroes to a read-only export', readOnly, ZEROES, 0, 0, 1, EPERM],
  ['a read of a read-only export', readOnly, READ, 0, 0, 1, OK],
  ['a flush of a read-only export', readOnly, FLUSH, 0, 0, 0, OK],
  ['a flush with a length', simple, FLUSH, 0, 0, 1, EINVAL],
  ['a flush with an offset', simple, FLUSH, 0, 1, 0, EINVAL],
  ['FUA on a read', simple, READ, FUA, 0, 1, OK],
  ['FUA on a write', simple, WRITE, FUA, 0, 1, OK],
  ['FUA on a flush', simple, FLUSH, FUA, 0, 0, OK],
  ['FUA on a trim', simple, TRIM, FUA, 0, 1, OK],
  ['FUA on a cache', simple, CACHE, FUA, 0, 1, OK],
  ['FUA on a block status', structured, STATUS, FUA, 0, 1, OK],
  ['all flags of zeroes', simple, ZEROES, FUA | NO_HOLE | FAST_ZERO, 0, 1, OK],
  ['NO_HOLE on a write', simple, WRITE, NO_HOLE, 0, 1, EINVAL],
  ['FAST_ZERO on a trim', simple, TRIM, FAST_ZERO, 0, 1, EINVAL],
  ['DF without structured replies', simple, READ, DF, 0, 1, EINVAL],
  ['DF with structured replies', structured, READ, DF, 0, 1, OK],
  ['DF on a write', structured, WRITE, DF, 0, 1, EINVAL],
  ['REQ_ONE on a read', structured, READ, REQ_ONE, 0, 1, EINVAL],
  ['REQ_ONE on a block status', structured, STATUS, REQ_ONE, 0, 1, OK],
  ['a block status without a context', simple, STATUS, 0, 0, 1, EINVAL],
  ['PAYLOAD_LEN on a compact write', structured, WRITE, PAYLOAD_LEN, 0, 1, EINVAL],
  ['PAYLOAD_LEN on an extended write', extended, WRITE, PAYLOAD_LEN, 0, 1, OK],
  ['an extended write without it', extended, WRITE, 0, 0, 1, OK],
  ['PAYLOAD_LEN on an extended read', extended, READ, PAYLOAD_LEN, 0, 1, EINVAL],
  ['a block status payload of one id', extended, STATUS, PAYLOAD_LEN, 0, 12, OK],
  ['a block status payload of no id', extended, STATUS, PAYLOAD_LEN, 0, 8, EINVAL],
  ['a block status payload of two ids', extended, STATUS, PAYLOAD_LEN, 0, 16, EINVAL],
  ['an unknown command', simple, 8, 0, 0, 0, EINVAL],
  ['a command of 65535', simple, 0xffff, 0, 0, 0, EINVAL],
  ['an unknown flag', simple, READ, 0x40, 0, 1, EINVAL],
  ['the highest flag', simple, READ, 0x8000, 0, 1, EINVAL],
];

for (const [fact, terms, command, flags, offset, length, error] of CASES) {
  t.test(`${fact} gives ${error}`, async (t) => {
    t.equal(validateRequest(header(command, flags, offset, length), terms), error);
  });
}

t.test(
  'no request that passes leaves the export, and no read or write the payload limit',
  async () => {
    const number = fc.oneof(
      fc.nat(2 * SIZE),
      fc.constantFrom(0, 1, SIZE - 1, SIZE, SIZE + 1, 2 ** 53, 2 ** 63, 2 ** 64 - 1),
    );
    fc.assert(
      fc.property(
        fc.nat(9),
        fc.nat(0x7f),
        number,
        number,
        fc.constantFrom(simple, structured, extended, readOnly),
        (command, flags, offset, length, terms) => {
          const error = validateRequest(header(command, flags, offset, length), terms);
          const counted = command === STATUS && (flags & PAYLOAD_LEN) !== 0;
          if (error !== OK || counted) return true;
          const inside = offset + length <= SIZE;
          const payload = command === READ || command === WRITE;
          return inside && (!payload || length <= 32 * MIB) && command !== DISC;
        },
      ),
      { seed, numRuns: 2000 },
    );
  },
);

t.test('the range of a block status payload is judged like one in a header', async (t) => {
  t.equal(validateBlockStatus(0, SIZE, structured), OK);
  t.equal(validateBlockStatus(1, SIZE, structured), EINVAL);
  t.equal(validateBlockStatus(0, 0, structured), EINVAL);
  t.equal(validateBlockStatus(0, 2 ** 63, structured), EINVAL);
  t.equal(validateBlockStatus(0, 1, simple), EINVAL);
});

t.test('only DISC disconnects', async (t) => {
  for (let command = 0; command < 10; command += 1) {
    t.equal(isDisconnect(header(command, 0, 0, 0)), command === 2);
  }
});

t.test('the end of a page call maps to an NBD error', async (t) => {
  const table = [
    [IoStatus.OK, 0],
    [IoStatus.INVALID, 22],
    [IoStatus.NO_SPACE, 28],
    [IoStatus.LOST, 5],
    [IoStatus.UNREACHABLE, 5],
    [IoStatus.SHUTDOWN, 108],
    [IoStatus.NO_LEASE, 5],
  ] as const;
  t.equal(table.length, Object.keys(IoStatus).length);
  for (const [status, error] of table) t.equal(ioStatusToNbdError(status), error);
});
