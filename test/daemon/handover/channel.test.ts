import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import {
  CHANNEL_DESCRIPTOR_COUNT_MAX,
  ChannelListener,
  DescriptorChannel,
} from '../../../daemon/handover/channel.ts';

async function pair(t: Test): Promise<{ one: DescriptorChannel; two: DescriptorChannel }> {
  const socket = path.join(fs.mkdtempSync('/tmp/mc-ch-'), 's');
  t.teardown(() => fs.rmSync(path.dirname(socket), { recursive: true }));
  const listener = ChannelListener.open(socket);
  t.equal(fs.statSync(socket).mode & 0o777, 0o600);
  const one = DescriptorChannel.connect(socket);
  const two = await listener.accept(1000);
  listener.close();
  t.notOk(fs.existsSync(socket));
  t.teardown(() => {
    one.close();
    two.close();
  });
  return { one, two };
}

t.test(
  'values and open files go over; the files are the same, the descriptors are new',
  async (t) => {
    const { one, two } = await pair(t);
    const file = path.join(t.testdir({ a: 'hello' }), 'a');
    const fds = Array.from({ length: CHANNEL_DESCRIPTOR_COUNT_MAX }, () => fs.openSync(file, 'r'));
    await one.send({ type: 'files', left: 0 }, 1000, fds);
    const { message, descriptors } = await two.receive(1000);
    t.same(message, { type: 'files', left: 0 });
    t.equal(descriptors.length, fds.length);
    for (const fd of fds) fs.closeSync(fd);
    for (const fd of descriptors) {
      t.equal(fs.readFileSync(fd, 'utf8').length >= 0, true);
      t.equal(fs.fstatSync(fd).ino, fs.statSync(file).ino);
      fs.closeSync(fd);
    }
    await two.send('back', 1000);
    await two.send([1], 1000);
    t.same(await one.receive(1000), { message: 'back', descriptors: [] }, 'packets keep apart');
    t.same(await one.receive(1000), { message: [1], descriptors: [] });
  },
);

t.test('the kernel says who the other is', async (t) => {
  const { one, two } = await pair(t);
  const here = { pid: process.pid, uid: process.getuid?.() };
  t.same([one.peer, two.peer], [here, here]);
});

t.test('an end that is silent, gone or was never there is ERR_HANDOVER', async (t) => {
  const { one, two } = await pair(t);
  await t.rejects(one.receive(30), { code: 'ERR_HANDOVER', message: /silent/ });
  two.close();
  two.close();
  await t.rejects(one.receive(1000), { code: 'ERR_HANDOVER', message: /closed/ });
  await t.rejects(one.send(1, 1000), { code: 'ERR_HANDOVER', message: /EPIPE/ });
  await t.rejects(two.receive(1000), { code: 'ERR_HANDOVER' });
  t.throws(() => DescriptorChannel.connect('/tmp/mc-nobody'), { code: 'ERR_HANDOVER' });
  const socket = path.join(fs.mkdtempSync('/tmp/mc-ch-'), 's');
  const listener = ChannelListener.open(socket);
  await t.rejects(listener.accept(30), { code: 'ERR_HANDOVER' });
  listener.close();
  fs.rmdirSync(path.dirname(socket));
});

t.test('more than a packet holds is our own mistake', async (t) => {
  const { one } = await pair(t);
  await t.rejects(one.send('x'.repeat(40_000), 1000), { code: 'ERR_INTERNAL' });
  const many = Array.from({ length: CHANNEL_DESCRIPTOR_COUNT_MAX + 1 }, () => 0);
  await t.rejects(one.send(1, 1000, many), { code: 'ERR_INTERNAL' });
});
