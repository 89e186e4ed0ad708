import fc from 'fast-check';
import t from 'tap';
import { MemcloudError } from '../../../../common/errors.ts';
import {
  attributeNest,
  attributeString,
  attributeU32,
  attributeU64,
  decodeAttributeList,
  decodeMessages,
  decodeText,
  decodeU32,
  encodeGenericRequest,
} from '../../../../nbd-server/client/kernel/netlink-codec.ts';

function hex(text: string): Buffer {
  return Buffer.from(text.replaceAll(/\s/g, ''), 'hex');
}

t.test('a request byte by byte: header, generic header, padded attributes', async (t) => {
  const bytes = encodeGenericRequest({
    familyId: 0x10,
    command: 3,
    version: 2,
    sequence: 7,
    attributes: [attributeString(2, 'nbd'), attributeU32(1, 5)],
  });
  t.equal(
    bytes.toString('hex'),
    hex(`
      24000000 1000 0500 07000000 00000000
      03 02 0000
      0800 0200 6e626400
      0800 0100 05000000`).toString('hex'),
  );
});

t.test('sockets as NBD_CMD_CONNECT takes them: nests with their flag', async (t) => {
  const sockets = attributeNest(7, [attributeNest(1, [attributeU32(1, 21)])]);
  const bytes = encodeGenericRequest({
    familyId: 0x1c,
    command: 1,
    version: 1,
    sequence: 1,
    attributes: [attributeU64(2, 65536), sockets],
  });
  t.equal(
    bytes.subarray(20).toString('hex'),
    hex(`
      0c00 0200 0000010000000000
      1000 0780
        0c00 0180
          0800 0100 15000000`).toString('hex'),
  );
});

t.test('an odd string is padded and its length is not', async (t) => {
  const bytes = encodeGenericRequest({
    familyId: 16,
    command: 1,
    version: 1,
    sequence: 1,
    attributes: [attributeString(2, 'ab')],
  });
  t.equal(bytes.subarray(20).toString('hex'), '0700' + '0200' + '616200' + '00');
  t.equal(bytes.length, 28);
});

t.test('an acknowledgement, an error with the kernel’s text, a reply', async (t) => {
  const ack = hex(
    '24000000 0200 0001 07000000 39300000  00000000  30000000 1c00 0500 07000000 00000000',
  );
  t.same(decodeMessages(ack), [{ kind: 'result', sequence: 7, errno: 0, text: '' }]);
  const text = Buffer.from('no such device\0');
  const error = Buffer.concat([
    hex('38000000 0200 0003 08000000 39300000  eaffffff  30000000 1c00 0500 08000000 00000000'),
    hex('1300 0100'),
    text,
    Buffer.alloc(1),
  ]);
  t.same(decodeMessages(error), [
    { kind: 'result', sequence: 8, errno: 22, text: 'no such device' },
  ]);
  const reply = hex('1c000000 1c00 0000 09000000 39300000  01 01 0000  0800 0100 03000000');
  const [message] = decodeMessages(Buffer.concat([reply, ack]));
  t.match(message, { kind: 'generic', familyId: 0x1c, sequence: 9, command: 1 });
  t.equal(message?.kind === 'generic' ? decodeU32(message.attributes.get(1)) : -1, 3);
  t.equal(decodeMessages(Buffer.concat([reply, ack])).length, 2);
});

t.test('values of the wrong size read as absent', async (t) => {
  t.equal(decodeU32(undefined), undefined);
  t.equal(decodeU32(Buffer.alloc(8)), undefined);
  t.equal(decodeText(undefined), '');
  t.equal(decodeText(Buffer.from('a\0b')), 'a');
});

t.test('lengths that lie are refused', async (t) => {
  const cases: Record<string, Buffer> = {
    'message longer than the datagram': hex('20000000 1c00 0000 09000000 39300000'),
    'message of 15 bytes': hex('0f000000 1c00 0000 09000000 39300000'),
    'message of no bytes': hex('00000000 1c00 0000 09000000 39300000'),
    'half a header': hex('10000000 1c00'),
    'no generic header': hex('10000000 1c00 0000 09000000 39300000'),
    'error without a number': hex('10000000 0200 0000 09000000 39300000'),
    'attribute longer than its message': hex(
      '18000000 1c00 0000 09000000 39300000 01010000 0900 0100',
    ),
    'attribute of 3 bytes': hex('18000000 1c00 0000 09000000 39300000 01010000 0300 0100'),
  };
  for (const [name, bytes] of Object.entries(cases)) {
    t.throws(() => decodeMessages(bytes), { code: 'ERR_NATIVE' }, name);
  }
});

t.test('any bytes give messages or that error, in bounded steps', async () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80, max: 40 }), (bytes) => {
      try {
        return (
          decodeMessages(Buffer.from(bytes)).length <= 5 &&
          decodeAttributeList(Buffer.from(bytes)).length <= 20
        );
      } catch (error) {
        return error instanceof MemcloudError && error.code === 'ERR_NATIVE';
      }
    }),
    { numRuns: 5000 },
  );
});
