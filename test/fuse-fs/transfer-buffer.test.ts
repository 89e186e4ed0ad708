import t from 'tap';
import {
  REPLY_AT,
  REPLY_DATA_AT,
  REQUEST_AT,
  REQUEST_SIZE_MAX_BYTES,
  TransferBuffer,
} from '../../fuse-fs/transfer-buffer.ts';

t.test('the data of a write and of a reply begin on a page', async (t) => {
  t.equal(REQUEST_AT + 40 + 40, 4096);
  t.equal(REPLY_AT + 16, 4096);
  t.equal(REPLY_DATA_AT, 4096);
  const buffer = new TransferBuffer();
  t.teardown(() => buffer.free());
  t.equal((buffer.address + REPLY_DATA_AT) % 4096, 0);
});

t.test('a request of a whole write fits, and its faces are one memory', async (t) => {
  t.equal(REQUEST_SIZE_MAX_BYTES, 80 + 2 ** 20);
  const buffer = new TransferBuffer();
  t.teardown(() => buffer.free());
  t.equal(buffer.requestBytes.length, REQUEST_SIZE_MAX_BYTES);
  buffer.requestBytes.writeUInt32LE(0x12345678, 0);
  t.equal(buffer.words[REQUEST_AT / 4], 0x12345678);
  buffer.requestBytes[REQUEST_SIZE_MAX_BYTES - 1] = 7;
  t.equal(buffer.bytes[4096 + 2 ** 20 - 1], 7, 'the last byte of the data');
});
