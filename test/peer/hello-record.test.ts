import t, { type Test } from 'tap';
import { encodeHello } from '../../peer/control.ts';
import { takeHelloRecord } from '../../peer/hello-record.ts';
import { RecordOpener, RecordSealer } from '../../peer/record-cipher.ts';
import { RecordWriter } from '../../peer/record-writer.ts';
import { MemoryOutput } from '../helpers/session-pair.ts';

const HELLO = 0x70;
const pending = encodeHello({ verdict: 'pending', lane: '' });

function setUp(t: Test, fill: (writer: RecordWriter) => void) {
  const output = new MemoryOutput();
  const writer = new RecordWriter(output, new RecordSealer(new Uint8Array(32).fill(1), 0), 0);
  const opener = new RecordOpener(new Uint8Array(32).fill(1));
  t.teardown(() => {
    writer.destroy();
    opener.destroy();
    output.free();
  });
  fill(writer);
  writer.close();
  const length = output.take().length;
  return { length, take: (end: number) => takeHelloRecord(opener, output.output, 0, end) };
}

t.test('a HELLO is taken when its record is whole', async (t) => {
  const { length, take } = setUp(t, (writer) => writer.body(HELLO, 0, 0, pending));
  for (let end = 0; end < length; end += 1) t.equal(take(end), undefined);
  t.same(take(length + 5), { hello: { verdict: 'pending', lane: '' }, size: length });
});

const REFUSED: Record<string, (writer: RecordWriter) => void> = {
  'another message': (writer) => writer.plain(0x10, 0, 1, 0),
  'two HELLOs': (writer) => {
    writer.body(HELLO, 0, 0, pending);
    writer.body(HELLO, 0, 0, pending);
  },
  'a HELLO and REKEY': (writer) => {
    writer.body(HELLO, 0, 0, pending);
    writer.plain(0x71, 0, 0, 0);
  },
  'a body that is none': (writer) => writer.body(HELLO, 0, 0, Buffer.from([0xc1])),
};
for (const [name, fill] of Object.entries(REFUSED)) {
  t.test(`a record of ${name} is refused`, async (t) => {
    const { length, take } = setUp(t, fill);
    t.throws(() => take(length), { code: 'ERR_PEER_PROTOCOL' });
  });
}

t.test('a record over 1024 bytes or with pages is refused on its lengths', async (t) => {
  const large = setUp(t, (writer) => writer.body(HELLO, 0, 0, Buffer.alloc(1001, 1)));
  t.throws(() => large.take(8), { code: 'ERR_PEER_PROTOCOL' });
  const paged = setUp(t, (writer) => {
    writer.placePages(1);
    writer.keepPages(1);
    writer.body(HELLO, 0, 0, pending);
  });
  t.throws(() => paged.take(8), { code: 'ERR_PEER_PROTOCOL' });
});
