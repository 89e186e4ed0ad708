import fs from 'node:fs';
import koffi from 'koffi';
import t, { type Test } from 'tap';
import {
  DescriptorMessage,
  MESSAGE_DESCRIPTOR_COUNT_MAX,
} from '../../common/descriptor-message.ts';

const EAGAIN = 11;
const EPIPE = 32;
const socketpair = koffi
  .load(null)
  .func('int socketpair(int domain, int type, int protocol, void *fds)');

/** Two ends of a stream, closed with the test. */
function pair(t: Test): [number, number] {
  const fds = Buffer.alloc(8);
  t.equal(socketpair(1, 1, 0, fds), 0);
  const ends: [number, number] = [fds.readInt32LE(0), fds.readInt32LE(4)];
  t.teardown(() => ends.forEach((fd) => tryClose(fd)));
  return ends;
}

function tryClose(fd: number): void {
  try {
    fs.closeSync(fd);
  } catch {
    // The test has closed it.
  }
}

function message(t: Test, size: number): DescriptorMessage {
  const made = new DescriptorMessage(size);
  t.teardown(() => made.free());
  return made;
}

t.test('bytes and open files arrive together', async (t) => {
  t.equal(MESSAGE_DESCRIPTOR_COUNT_MAX, 64);
  const [a, b] = pair(t);
  const [sent, received] = [message(t, 100), message(t, 100)];
  const files = Array.from({ length: 64 }, () => fs.openSync('/dev/null', 'r'));
  t.equal(sent.send(a, Buffer.from('hello'), files), 5);
  t.equal(received.receive(b), 5);
  t.equal(received.data(5).toString(), 'hello');
  const copies = received.descriptors();
  t.equal(copies.length, 64);
  t.notOk(received.truncated);
  t.equal(fs.fstatSync(copies[63]!).rdev, fs.fstatSync(files[63]!).rdev, 'the same device');
  for (const fd of [...files, ...copies]) fs.closeSync(fd);
});

t.test('bytes alone, nothing, and an end that is gone', async (t) => {
  const [a, b] = pair(t);
  const one = message(t, 100);
  t.equal(one.receive(b), -EAGAIN, 'it does not wait');
  t.equal(one.send(a, Buffer.from('x'), []), 1);
  t.equal(one.receive(b), 1);
  t.strictSame(one.descriptors(), []);
  fs.closeSync(a);
  t.equal(one.receive(b), 0, 'closed');
  t.equal(one.send(b, Buffer.from('x'), []), -EPIPE);
});
