import fc from 'fast-check';
import t from 'tap';
import {
  decodeRequest,
  decodeUint64,
  encodeExtendedReply,
  encodeSimpleReply,
  encodeStructuredReply,
  encodeUint64,
  payloadSizeBytes,
  ReplyMode,
  RequestHeader,
  requestSizeBytes,
} from '../../nbd-server/message-codec.ts';
import { extendedRequest, request } from '../helpers/nbd-raw-client.ts';
import { testSeed } from '../helpers/nbd-fixture.ts';

const seed = testSeed();
t.comment(`SEED=${seed}`);

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

t.test('a compact request is decoded field by field', async (t) => {
  const bytes = Buffer.from(
    '25609513' + '0001' + '0006' + '0123456789abcdef' + '0000000100002000' + '80000001',
    'hex',
  );
  const header = new RequestHeader();
  t.equal(decodeRequest(viewOf(bytes), 0, ReplyMode.SIMPLE, header), true);
  t.same(
    { ...header },
    {
      flags: 1,
      command: 6,
      cookieHigh: 0x01234567,
      cookieLow: 0x89abcdef,
      offsetHigh: 1,
      offsetLow: 0x2000,
      offset: 0x100002000,
      length: 0x80000001,
    },
  );
});

t.test('an extended request has a length of 64 bits', async (t) => {
  const bytes = extendedRequest({ command: 4, offset: 7, length: 0x1_0000_0005 });
  t.equal(bytes.length, 32);
  const header = new RequestHeader();
  t.equal(decodeRequest(viewOf(bytes), 0, ReplyMode.EXTENDED, header), true);
  t.equal(header.length, 0x1_0000_0005);
});

t.test('the magic of the other framing, or any other, is refused', async (t) => {
  const header = new RequestHeader();
  const compact = Buffer.concat([request({ command: 0 }), Buffer.alloc(4)]);
  const extended = extendedRequest({ command: 0 });
  t.equal(decodeRequest(viewOf(compact), 0, ReplyMode.EXTENDED, header), false);
  t.equal(decodeRequest(viewOf(extended), 0, ReplyMode.STRUCTURED, header), false);
  compact[3] = 0;
  t.equal(decodeRequest(viewOf(compact), 0, ReplyMode.SIMPLE, header), false);
});

t.test('header sizes', async (t) => {
  t.equal(requestSizeBytes(ReplyMode.SIMPLE), 28);
  t.equal(requestSizeBytes(ReplyMode.STRUCTURED), 28);
  t.equal(requestSizeBytes(ReplyMode.EXTENDED), 32);
});

t.test('what follows a header', async (t) => {
  const cases = [
    // command, flags, mode, payload of a length of 100
    [1, 0, ReplyMode.SIMPLE, 100],
    [1, 0, ReplyMode.EXTENDED, 100],
    [1, 0x20, ReplyMode.EXTENDED, 100],
    [0, 0, ReplyMode.SIMPLE, 0],
    [0, 0x20, ReplyMode.SIMPLE, 0],
    [0, 0x20, ReplyMode.STRUCTURED, 0],
    [0, 0x20, ReplyMode.EXTENDED, 100],
    [7, 0x20, ReplyMode.EXTENDED, 100],
    [7, 0, ReplyMode.EXTENDED, 0],
    [2, 0x20, ReplyMode.EXTENDED, 0],
    [999, 0x20, ReplyMode.EXTENDED, 100],
  ] as const;
  for (const [command, flags, mode, expected] of cases) {
    const header = Object.assign(new RequestHeader(), { command, flags, length: 100 });
    t.equal(payloadSizeBytes(header, mode), expected, `command ${command} flags ${flags}`);
  }
});

t.test('replies are laid out as proto.md says', async (t) => {
  const bytes = Buffer.alloc(40, 0xee);
  const view = viewOf(bytes);
  encodeSimpleReply(view, 0, 28, 0x01234567, 0x89abcdef);
  t.equal(bytes.toString('hex', 0, 17), '67446698' + '0000001c' + '0123456789abcdef' + 'ee');
  encodeStructuredReply(view, 0, 1, 0x8001, 0x01234567, 0x89abcdef, 0x102);
  t.equal(
    bytes.toString('hex', 0, 21),
    '668e33ef' + '0001' + '8001' + '0123456789abcdef' + '00000102' + 'ee',
  );
  encodeExtendedReply(view, 0, 1, 6, 0x01234567, 0x89abcdef, 0xfedcba98, 0x76543210, 0x102);
  t.equal(
    bytes.toString('hex', 0, 33),
    '6e8a278c' +
      '0001' +
      '0006' +
      '0123456789abcdef' +
      'fedcba9876543210' +
      '0000000000000102' +
      'ee',
  );
});

t.test('64-bit numbers survive below 2^53 and stay too great above', async () => {
  const view = new DataView(new ArrayBuffer(8));
  fc.assert(
    fc.property(fc.maxSafeNat(), (value) => {
      encodeUint64(view, 0, value);
      return view.getBigUint64(0) === BigInt(value) && decodeUint64(view, 0) === value;
    }),
    { seed },
  );
  fc.assert(
    fc.property(fc.bigInt({ min: 2n ** 53n, max: 2n ** 64n - 1n }), (value) => {
      view.setBigUint64(0, value);
      return decodeUint64(view, 0) >= 2 ** 53;
    }),
    { seed },
  );
});

t.test('any header decodes to what a plain reader sees', async () => {
  fc.assert(
    fc.property(
      fc.record({
        command: fc.nat(0xffff),
        flags: fc.nat(0xffff),
        cookie: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
        offset: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
        length: fc.nat(0xffffffff),
      }),
      fc.nat(9),
      (parts, at) => {
        const bytes = Buffer.concat([Buffer.alloc(at), request(parts)]);
        const header = new RequestHeader();
        const known = decodeRequest(viewOf(bytes), at, ReplyMode.STRUCTURED, header);
        const cookie = (BigInt(header.cookieHigh) << 32n) | BigInt(header.cookieLow);
        const offset = (BigInt(header.offsetHigh) << 32n) | BigInt(header.offsetLow);
        return (
          known &&
          header.command === parts.command &&
          header.flags === parts.flags &&
          cookie === parts.cookie &&
          offset === parts.offset &&
          header.offset === Number(parts.offset) &&
          header.length === parts.length
        );
      },
    ),
    { seed },
  );
});
