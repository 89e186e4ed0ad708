import fc from 'fast-check';
import t from 'tap';
import {
  NEED_MORE,
  decodeInnerPlaintext,
  decodeRecordHeader,
  encodeRecordHeader,
} from '../../direct/record-codec.ts';

const header = (type: number, version: number, length: number): Buffer =>
  Buffer.from([type, version >> 8, version & 255, length >> 8, length & 255]);

t.test('a header says how much follows, at any place of the buffer', async (t) => {
  for (const length of [17, 18, 4096, 16_401, 16_640]) {
    const bytes = Buffer.concat([Buffer.alloc(3, 0xee), header(23, 0x0303, length)]);
    t.equal(decodeRecordHeader(bytes, 3, bytes.length), length);
    for (let end = 3; end < bytes.length; end += 1) {
      t.equal(decodeRecordHeader(bytes, 3, end), NEED_MORE, `${end - 3} bytes are not enough`);
    }
    const written = Buffer.alloc(8, 0xee);
    encodeRecordHeader(written, 3, length);
    t.same(written, bytes);
  }
});

t.test('anything but application data within the limits is a breach', async (t) => {
  const cases: [string, Buffer, RegExp][] = [
    ['change_cipher_spec', header(20, 0x0303, 17), /content type 23, got 20/],
    ['alert', header(21, 0x0303, 19), /content type 23, got 21/],
    ['handshake', header(22, 0x0303, 100), /content type 23, got 22/],
    ['type 0', header(0, 0x0303, 100), /got 0/],
    ['version 3.1', header(23, 0x0301, 100), /version 771, got 769/],
    ['version 3.4', header(23, 0x0304, 100), /version 771, got 772/],
    ['no room for a type and a tag', header(23, 0x0303, 16), /17 to 16640 bytes, got 16/],
    ['empty', header(23, 0x0303, 0), /got 0/],
    ['one byte too long', header(23, 0x0303, 16_641), /got 16641/],
    ['much too long', header(23, 0x0303, 65_535), /got 65535/],
  ];
  for (const [name, bytes, message] of cases) {
    t.throws(() => decodeRecordHeader(bytes, 0, 5), { code: 'ERR_PEER_PROTOCOL', message }, name);
  }
});

t.test('content, type and padding come apart again', async () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 300 }),
      fc.nat(300),
      fc.nat(10),
      (content, padding, before) => {
        const inner = Buffer.concat([
          Buffer.alloc(before, 0xee),
          content,
          Buffer.from([23]),
          Buffer.alloc(padding),
        ]);
        return decodeInnerPlaintext(inner, before, inner.length - before) === content.length;
      },
    ),
  );
});

t.test('inner plaintexts at and over the limits', async (t) => {
  const inner = Buffer.alloc(16_700, 7);
  inner[16_384] = 23;
  t.equal(decodeInnerPlaintext(inner, 0, 16_385), 16_384, 'the longest');
  t.throws(() => decodeInnerPlaintext(inner, 0, 16_386), { code: 'ERR_PEER_PROTOCOL' });
  t.throws(
    () => decodeInnerPlaintext(Buffer.alloc(50), 0, 50),
    /inner type 23, got 0/,
    'padding only',
  );
  t.throws(() => decodeInnerPlaintext(Buffer.alloc(0), 0, 0), /got 0/, 'nothing at all');
  t.throws(() => decodeInnerPlaintext(Buffer.from([1, 0, 21]), 0, 3), /got 21/, 'an alert');
  t.throws(() => decodeInnerPlaintext(Buffer.from([24, 0, 0, 0, 0, 22, 0]), 0, 7), /got 22/);
});

t.test('bytes before the plaintext are not taken for its type', async (t) => {
  t.throws(() => decodeInnerPlaintext(Buffer.from([23, 0, 0, 0]), 1, 3), /got 0/);
});
