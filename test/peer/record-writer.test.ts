import t, { type Test } from 'tap';
import { emptyRecordLayout, readRecordLayout } from '../../peer/frame.ts';
import { MessageCursor } from '../../peer/messages.ts';
import { RecordOpener, RecordSealer } from '../../peer/record-cipher.ts';
import { RecordWriter } from '../../peer/record-writer.ts';
import { MemoryOutput } from '../helpers/session-pair.ts';

const READ = 1;
const WRITE = 2;
const PING = 0x10;
const CONTROL = 0x20;
const REKEY = 0x71;

function setUp(t: Test, rekey?: ConstructorParameters<typeof RecordSealer>[2]) {
  const output = new MemoryOutput();
  const writer = new RecordWriter(
    output,
    new RecordSealer(new Uint8Array(32).fill(1), 0, rekey),
    0,
  );
  const opener = new RecordOpener(new Uint8Array(32).fill(1), rekey);
  t.teardown(() => {
    writer.destroy();
    opener.destroy();
    output.free();
  });
  /** The records so far: [types of messages, first byte of each page]. */
  const records = (): [number[], number[]][] => {
    writer.close();
    const length = output.take().length;
    const { bytes } = output.output;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const layout = emptyRecordLayout();
    const found: [number[], number[]][] = [];
    let at = 0;
    while (readRecordLayout(view, at, length, layout)) {
      opener.open(output.output, at, layout.pagesLength, layout.headLength);
      const types = [];
      const cursor = new MessageCursor();
      cursor.reset(view, at + 8 + layout.pagesLength, layout.headLength);
      while (cursor.next()) types.push(cursor.type);
      if (types.at(-1) === REKEY) opener.rekey();
      const pages = [];
      for (let page = 0; page < layout.pagesLength; page += 4112)
        pages.push(bytes[at + 8 + page] ?? -1);
      found.push([types, pages]);
      at += layout.size;
    }
    t.equal(at, length, 'nothing but whole records');
    return found;
  };
  const write = (count: number, fill: number): void => {
    const offset = writer.placePages(count);
    writer.pageMemory.bytes.fill(fill, offset, offset + count * 4112);
    writer.keepPages(count);
    writer.pages(WRITE, 0, 0, 0, 0, count);
  };
  return { output, writer, records, write };
}

t.test('nothing said is nothing sent', async (t) => {
  const { writer, records, output } = setUp(t);
  t.same(records(), []);
  writer.placePages(3);
  t.same(records(), [], 'room that was not used goes back');
  t.equal(output.backlogBytes, 0);
});

t.test('urgent messages come first, the others in order, pages with them', async (t) => {
  const { writer, records, write } = setUp(t);
  write(2, 7);
  writer.pages(READ, 0, 1, 0, 0, 1);
  write(1, 9);
  writer.plain(PING, 0, 1, 0);
  writer.body(CONTROL, 0, 1, Buffer.from('abc'));
  t.same(records(), [
    [
      [READ, PING, WRITE, WRITE, CONTROL],
      [7, 7, 9],
    ],
  ]);
});

t.test('a record closes at 64 pages', async (t) => {
  const { records, write } = setUp(t);
  for (let index = 0; index < 65; index += 1) write(1, index);
  const [first, second, ...rest] = records();
  t.same([first?.[1].length, second?.[1], rest.length], [64, [64], 0]);
});

t.test('a call of 64 pages after one of 1 gets a record of its own', async (t) => {
  const { records, write } = setUp(t);
  write(1, 1);
  write(64, 2);
  t.same(
    records().map(([types, pages]) => [types.length, pages.length]),
    [
      [1, 1],
      [1, 64],
    ],
  );
});

t.test('pages that a failed read placed are overwritten by the next', async (t) => {
  const { writer, records } = setUp(t);
  const offset = writer.placePages(4);
  writer.pageMemory.bytes.fill(1, offset, offset + 4 * 4112);
  writer.pages(0x81, 6, 0, 1, 0, 0);
  const next = writer.placePages(1);
  t.equal(next, offset);
  writer.pageMemory.bytes.fill(2, next, next + 4112);
  writer.keepPages(1);
  writer.pages(0x81, 0, 0, 2, 1, 0);
  t.same(records(), [[[0x81, 0x81], [2]]]);
});

t.test('a head closes before 64 KiB, with room for REKEY', async (t) => {
  const { writer, records } = setUp(t);
  for (let index = 0; index < 2800; index += 1) writer.pages(READ, 0, index, 1, 0, 1);
  writer.body(CONTROL, 0, 1, new Uint8Array(60000));
  t.same(
    records().map(([types]) => types.length),
    [2730, 71],
  );
  t.throws(() => writer.body(CONTROL, 0, 1, new Uint8Array(60001)), { code: 'ERR_INTERNAL' });
});

t.test(
  'the last record of a key ends with REKEY and the next opens under the new key',
  async (t) => {
    const { writer, records } = setUp(t, { recordCountMax: 2, bytesMax: 2 ** 36, ageMaxMs: 1e9 });
    for (let index = 0; index < 5; index += 1) {
      writer.plain(PING, 0, 1, 0);
      writer.close();
    }
    t.same(
      records().map(([types]) => types),
      [[PING], [PING, REKEY], [PING], [PING, REKEY], [PING]],
    );
  },
);

t.test('an old key is changed with the next record', async (t) => {
  const { writer, records } = setUp(t, { recordCountMax: 1000, bytesMax: 2 ** 36, ageMaxMs: 500 });
  writer.nowMs = 500;
  writer.plain(PING, 0, 1, 0);
  writer.close();
  writer.nowMs = 600;
  writer.plain(PING, 0, 1, 0);
  t.same(
    records().map(([types]) => types),
    [[PING, REKEY], [PING]],
  );
});

t.test('after the end an open record is gone and writing is a defect, not a crash', async (t) => {
  const { writer, output, write } = setUp(t);
  write(1, 1);
  writer.destroy();
  t.equal(output.backlogBytes, 0);
  t.throws(() => writer.plain(PING, 0, 1, 0), { code: 'ERR_INTERNAL' });
  writer.close();
  writer.destroy();
});
