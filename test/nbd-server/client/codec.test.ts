import fc from 'fast-check';
import t from 'tap';
import {
  decodeExportReply,
  decodeExtendedHeader,
  decodeGreeting,
  decodeInformation,
  decodeMetaContext,
  decodeOptionReplyHeader,
  decodeServerReply,
  decodeSimpleReply,
  decodeStructuredHeader,
  encodeClientFlags,
  encodeExportName,
  encodeInfoData,
  encodeMetaContextData,
  encodeOption,
  encodeRequest,
  replyStyleOf,
  serverText,
} from '../../../nbd-server/client/codec.ts';
import { MemcloudError } from '../../../common/errors.ts';

/** Bytes from hex with spaces for reading. */
function hex(text: string): Buffer {
  return Buffer.from(text.replaceAll(/\s/g, ''), 'hex');
}

t.test('what the client sends, byte by byte', async (t) => {
  t.same(encodeClientFlags(3), hex('00000003'));
  t.same(encodeOption(7, Buffer.from('ab')), hex('49484156454f5054 00000007 00000002 6162'));
  t.same(encodeOption(2), hex('49484156454f5054 00000002 00000000'));
  t.same(encodeInfoData('ab', [2, 3]), hex('00000002 6162 0002 0002 0003'));
  t.same(
    encodeMetaContextData('x', 'base:allocation'),
    hex('00000001 78 00000001 0000000f 626173653a616c6c6f636174696f6e'),
  );
  const request = { type: 1, flags: 1, cookie: 0x0102, offset: 4096, length: 512 };
  t.same(
    encodeRequest('simple', request),
    hex('25609513 0001 0001 0000000000000102 0000000000001000 00000200'),
  );
  t.same(encodeRequest('structured', request), encodeRequest('simple', request));
  t.same(
    encodeRequest('extended', { ...request, length: 2 ** 33 }),
    hex('21e41c71 0001 0001 0000000000000102 0000000000001000 0000000200000000'),
  );
});

t.test('what the server sends, byte by byte', async (t) => {
  t.same(decodeGreeting(hex('4e42444d41474943 49484156454f5054 0003')), {
    fixedNewstyle: true,
    noZeroes: true,
  });
  t.same(decodeOptionReplyHeader(hex('0003e889045565a9 00000007 80000006 00000010')), {
    option: 7,
    type: 0x8000_0006,
    dataLength: 16,
  });
  t.same(decodeInformation(hex('0000 0000000000001000 0005')), {
    type: 'export',
    sizeBytes: 4096,
    transmissionFlags: 5,
  });
  t.same(decodeInformation(hex('0003 00000001 00001000 02000000')), {
    type: 'blockSize',
    minimum: 1,
    preferred: 4096,
    maximumPayload: 33_554_432,
  });
  t.same(decodeInformation(hex('0001 6162')), { type: 'name', text: 'ab' });
  t.same(decodeInformation(hex('0002 6162')), { type: 'description', text: 'ab' });
  t.same(decodeInformation(hex('7777 01')), { type: 'unknown' });
  t.same(decodeServerReply(hex('00000002 6162 6364')), { name: 'ab', description: 'cd' });
  t.same(decodeMetaContext(hex('00000009 6162')), { id: 9, name: 'ab' });
  t.same(decodeExportReply(hex('0000000000001000 0003')), {
    sizeBytes: 4096,
    transmissionFlags: 3,
  });
  t.same(decodeSimpleReply(hex('67446698 00000005 0000000000000102')), {
    kind: 'simple',
    error: 5,
    cookie: 0x102,
  });
  t.same(decodeStructuredHeader(hex('668e33ef 0001 8001 0000000000000102 00000007')), {
    kind: 'chunk',
    flags: 1,
    type: 0x8001,
    cookie: 0x102,
    length: 7,
  });
  t.same(
    decodeExtendedHeader(
      hex('6e8a278c 0001 0006 0000000000000102 0000000000000000 0000000000000018'),
    ),
    { kind: 'chunk', flags: 1, type: 6, cookie: 0x102, length: 24 },
  );
  t.equal(replyStyleOf(0x67446698), 'simple');
  t.equal(replyStyleOf(0x668e33ef), 'structured');
  t.equal(replyStyleOf(0x6e8a278c), 'extended');
});

t.test('a cookie beyond 2^53 is nobody’s, not somebody else’s', async (t) => {
  const reply = hex('67446698 00000000 0020000000000001');
  t.match(decodeSimpleReply(reply), { cookie: -1 });
});

t.test('refused as ERR_NBD_PROTOCOL', async (t) => {
  const cases: Record<string, () => unknown> = {
    'not NBD': () => decodeGreeting(hex('0000000000000000 49484156454f5054 0003')),
    oldstyle: () => decodeGreeting(hex('4e42444d41474943 0000420281861253 0003')),
    'option reply magic': () =>
      decodeOptionReplyHeader(hex('0003e889045565aa 00000007 00000001 00000000')),
    'information of one byte': () => decodeInformation(hex('00')),
    'export information cut': () => decodeInformation(hex('0000 0000000000001000 00')),
    'export information too long': () => decodeInformation(hex('0000 0000000000001000 0005 00')),
    'size of 2^53': () => decodeInformation(hex('0000 0020000000000000 0005')),
    'minimum block 3': () => decodeInformation(hex('0003 00000003 00001000 02000000')),
    'minimum block 0': () => decodeInformation(hex('0003 00000000 00001000 02000000')),
    'minimum block 128 KiB': () => decodeInformation(hex('0003 00020000 00020000 02000000')),
    'preferred below 512': () => decodeInformation(hex('0003 00000001 00000100 02000000')),
    'preferred below minimum': () => decodeInformation(hex('0003 00001000 00000200 02000000')),
    'maximum below preferred': () => decodeInformation(hex('0003 00000001 00001000 00000800')),
    'name longer than the reply': () => decodeServerReply(hex('00000009 6162')),
    'server reply of 3 bytes': () => decodeServerReply(hex('000000')),
    'context of 3 bytes': () => decodeMetaContext(hex('000000')),
    'name of 4097 bytes': () =>
      decodeServerReply(Buffer.concat([hex('00001001'), Buffer.alloc(4097, 'n')])),
    'reply magic': () => replyStyleOf(0x67446699),
  };
  for (const [name, decode] of Object.entries(cases)) {
    t.throws(decode, { code: 'ERR_NBD_PROTOCOL' }, name);
  }
});

t.test('an export name that cannot exist is refused before it is sent', async (t) => {
  t.equal(encodeExportName('n'.repeat(4096)).length, 4096);
  t.throws(() => encodeExportName('n'.repeat(4097)), { code: 'ERR_NBD_EXPORT_UNKNOWN' });
  t.throws(() => encodeExportName('a\0b'), { code: 'ERR_NBD_EXPORT_UNKNOWN' });
});

t.test('a server’s text is one bounded printable line', async (t) => {
  t.equal(serverText(Buffer.from('go\n\u001b[31maway\u2028!')), 'go [31maway !');
  t.equal(serverText(Buffer.alloc(5000, 'x')).length, 200);
});

t.test('decoders of variable data give a value or a protocol error for any bytes', async () => {
  const decoders = [decodeInformation, decodeServerReply, decodeMetaContext];
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), fc.constantFrom(...decoders), (bytes, decode) => {
      try {
        decode(Buffer.from(bytes));
        return true;
      } catch (error) {
        return error instanceof MemcloudError && error.code === 'ERR_NBD_PROTOCOL';
      }
    }),
    { numRuns: 3000 },
  );
});
