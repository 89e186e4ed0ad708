import fc from 'fast-check';
import t from 'tap';
import {
  decodeInfoRequest,
  decodeMetaContextRequest,
  decodeString,
  encodeExportNameReply,
  encodeGreeting,
  encodeInfoBlockSize,
  encodeInfoExport,
  encodeInfoText,
  encodeMetaContext,
  encodeOptionReply,
  encodeServerData,
} from '../../nbd-server/option-codec.ts';
import { counted, infoData, metaData, u16, u32 } from '../helpers/nbd-raw-client.ts';
import { testSeed } from '../helpers/nbd-fixture.ts';

const seed = testSeed();
t.comment(`SEED=${seed}`);

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

t.test('what the server sends is laid out as proto.md says', async (t) => {
  t.equal(hex(encodeGreeting()), '4e42444d41474943' + '49484156454f5054' + '0003');
  t.equal(
    hex(encodeOptionReply(7, 0x80000006, Buffer.from('no'))),
    '0003e889045565a9' + '00000007' + '80000006' + '00000002' + '6e6f',
  );
  t.equal(hex(encodeOptionReply(2, 1)), '0003e889045565a9' + '00000002' + '00000001' + '00000000');
  t.equal(hex(encodeExportNameReply(0x100000002, 0x0d, false)), '0000000100000002' + '000d');
  t.equal(
    hex(encodeExportNameReply(0x100000002, 0x0d, true)),
    '0000000100000002' + '000d' + '00'.repeat(124),
  );
  t.equal(hex(encodeServerData('ä', 'x')), '00000002' + 'c3a4' + '78');
  t.equal(hex(encodeInfoExport(4096, 0x41d)), '0000' + '0000000000001000' + '041d');
  t.equal(hex(encodeInfoText(2, 'ab')), '0002' + '6162');
  t.equal(
    hex(encodeInfoBlockSize(1, 4096, 0x2000000)),
    '0003' + '00000001' + '00001000' + '02000000',
  );
  t.equal(hex(encodeMetaContext(1, 'a:b')), '00000001' + '613a62');
});

t.test('strings are UTF-8, without NUL, at most 4096 bytes', async (t) => {
  t.equal(decodeString(Buffer.from('')), '');
  t.equal(decodeString(Buffer.from('größe')), 'größe');
  t.equal(decodeString(Buffer.from('\ufeffx')), '\ufeffx', 'a byte order mark is not dropped');
  t.equal(decodeString(Buffer.alloc(4096, 'a'))?.length, 4096);
  t.equal(decodeString(Buffer.alloc(4097, 'a')), undefined);
  t.equal(decodeString(Buffer.from('a\0b')), undefined);
  t.equal(decodeString(Buffer.from([0xc3])), undefined, 'a cut sequence');
  t.equal(decodeString(Buffer.from([0xc0, 0xaf])), undefined, 'an overlong sequence');
});

t.test('INFO data must add up', async (t) => {
  t.same(decodeInfoRequest(infoData('e', [3, 0, 99])), { exportName: 'e', infoTypes: [3, 0, 99] });
  t.same(decodeInfoRequest(infoData('')), { exportName: '', infoTypes: [] });
  const bad: [string, Uint8Array][] = [
    ['nothing', Buffer.alloc(0)],
    ['only a length', u32(0)],
    ['a name longer than the data', Buffer.concat([u32(5), Buffer.from('abc'), u16(0)])],
    ['a name of 2^32 - 1', Buffer.concat([u32(0xffffffff), u16(0)])],
    ['fewer types than counted', Buffer.concat([counted('e'), u16(2), u16(3)])],
    ['more types than counted', Buffer.concat([counted('e'), u16(0), u16(3)])],
    ['an odd byte', Buffer.concat([infoData('e', [3]), Buffer.alloc(1)])],
    ['a name with NUL', infoData('a\0')],
    ['a name of 4097 bytes', infoData('n'.repeat(4097))],
  ];
  for (const [what, data] of bad) t.equal(decodeInfoRequest(data), undefined, what);
});

t.test('meta context data must add up', async (t) => {
  t.same(decodeMetaContextRequest(metaData('e', ['a:', 'b:c'])), {
    exportName: 'e',
    queries: ['a:', 'b:c'],
  });
  t.same(decodeMetaContextRequest(metaData('e', [])), { exportName: 'e', queries: [] });
  const bad: [string, Uint8Array][] = [
    ['nothing', Buffer.alloc(0)],
    ['no count', counted('e')],
    ['a count of 2^32 - 1', Buffer.concat([counted('e'), u32(0xffffffff)])],
    ['a count above the queries', Buffer.concat([counted('e'), u32(2), counted('a:')])],
    ['bytes behind the queries', Buffer.concat([metaData('e', ['a:']), Buffer.alloc(1)])],
    ['a query longer than the data', Buffer.concat([counted('e'), u32(1), u32(9)])],
    ['a query of 4097 bytes', metaData('e', ['q'.repeat(4097)])],
  ];
  for (const [what, data] of bad) t.equal(decodeMetaContextRequest(data), undefined, what);
});

t.test('any bytes decode or do not, and never throw', async () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      decodeString(bytes);
      const info = decodeInfoRequest(bytes);
      const meta = decodeMetaContextRequest(bytes);
      const infoBack = info && infoData(info.exportName, info.infoTypes);
      const metaBack = meta && metaData(meta.exportName, meta.queries);
      return (!infoBack || infoBack.equals(bytes)) && (!metaBack || metaBack.equals(bytes));
    }),
    { seed, numRuns: 2000 },
  );
});

t.test('any valid request is decoded to itself', async () => {
  const name = fc.string({ unit: 'grapheme', maxLength: 20 }).filter((s) => !s.includes('\0'));
  fc.assert(
    fc.property(
      name,
      fc.array(fc.nat(0xffff)),
      fc.array(name),
      (exportName, infoTypes, queries) => {
        const info = decodeInfoRequest(infoData(exportName, infoTypes));
        const meta = decodeMetaContextRequest(metaData(exportName, queries));
        return (
          JSON.stringify(info) === JSON.stringify({ exportName, infoTypes }) &&
          JSON.stringify(meta) === JSON.stringify({ exportName, queries })
        );
      },
    ),
    { seed },
  );
});
