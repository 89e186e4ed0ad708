/** Sealed and compressed values through real daemons: what the holder sees, and what it cannot do. */
import fs from 'node:fs';
import path from 'node:path';
import { Readable } from 'node:stream';
import t from 'tap';
import { MemCloud } from '../../sdk/memcloud.ts';
import { sealKeyOf } from '../../sdk/seal.ts';
import { Random } from '../helpers/fuzz.ts';
import { LabNode, labFolder } from '../helpers/lab-node.ts';

const MIB = 2 ** 20;
const SEAL = { code: 'ERR_OBJECT_SEAL' };

t.test('a holder sees nothing of a sealed value, and its forgeries are refused', async (t) => {
  const folder = labFolder(t);
  const holder = await LabNode.start(t, { name: 'holder', folder, offer: '256M' });
  const connect = [holder.peerAddress];
  const node = await LabNode.start(t, { name: 'node', folder, offer: '64M', connect });
  await node.waitForPeers(1);
  const keyFile = path.join(folder, 'keys/seal.key');
  const cloud = new MemCloud({ socketPath: node.socketPath, sealKey: keyFile });
  const sees = new MemCloud(holder.socketPath);
  t.teardown(() => {
    cloud.close();
    sees.close();
  });
  const there = { target: 'holder', sealed: true } as const;

  const text = Buffer.from('a secret that comes again and again; '.repeat(8000));
  for (const [key, options] of Object.entries({
    small: {},
    long: {},
    packed: { compress: 'lz4' },
  } as const)) {
    const value = key === 'small' ? text.subarray(0, 100) : text;
    const { object } = await cloud.set(key, value, {
      ...there,
      ...options,
      meta: Buffer.from('m'),
    });
    t.equal(object.holderName, 'holder');
    t.ok(value.equals(await cloud.get(key, { sealed: true })), `${key}: it comes back`);
    t.ok(value.equals(await cloud.get(key)), `${key}: also when nobody insists`);
    const range = await cloud.getRange(key, 50, 60_000);
    t.ok(range.equals(value.subarray(50, 60_050)), `${key}: a range`);
    t.equal((await cloud.getRange(key, value.length + 5, 10)).length, 0);
  }
  t.equal(fs.statSync(keyFile).mode & 0o777, 0o600, 'the key was made');
  const packed = await cloud.stat('packed');
  t.ok((packed?.sizeBytes ?? 0) < text.length / 20, 'compressed before it was sealed');

  const { object } = await cloud.set('plain', 'not sealed', { target: 'holder' });
  t.equal(object.sizeBytes, 10);
  await t.rejects(cloud.get('plain', { sealed: true }), SEAL, 'who insists gets sealed ones');
  const other = new MemCloud({ socketPath: node.socketPath, sealKey: sealKeyOf(Buffer.alloc(32)) });
  t.teardown(() => other.close());
  await t.rejects(other.get('small'), SEAL, 'another key opens nothing');
  const none = { socketPath: node.socketPath, sealKey: path.join(folder, 'none') };
  const keyless = new MemCloud(none);
  t.teardown(() => keyless.close());
  await t.rejects(keyless.get('small'), SEAL, 'no key opens nothing');
  t.notOk(fs.existsSync(none.sealKey), 'and none is made for it');

  const bytes = await sees.status();
  t.equal(bytes.name, 'holder');
  await t.rejects(sees.get('small', 'local'), SEAL, 'the holder cannot open it');
  const block = await cloud.store(text, there);
  t.ok(text.equals(await cloud.load(block, { sealed: true })), 'a block');
});

t.test('sealed and compressed streams go there and back in pieces', async (t) => {
  const folder = labFolder(t);
  const node = await LabNode.start(t, { name: 'node', folder, offer: '256M' });
  const sealKey = sealKeyOf(Buffer.alloc(32, 3));
  const cloud = new MemCloud({ socketPath: node.socketPath, sealKey });
  t.teardown(() => cloud.close());
  const value = Buffer.concat([new Random(1).bytes(MIB + 7), Buffer.alloc(2 * MIB, 'text ')]);
  const pieces = function* (): Generator<Buffer> {
    for (let at = 0; at < value.length; at += 99_991) yield value.subarray(at, at + 99_991);
  };
  for (const options of [
    { sealed: true },
    { compress: 'lz4' },
    { sealed: true, compress: 'lz4' },
  ]) {
    const to = options as { sealed?: boolean; compress?: 'lz4' };
    await cloud.storeStream(Readable.from(pieces()), { key: 's', sizeHint: 1, ...to });
    const got: Buffer[] = [];
    for await (const piece of cloud.getStream('s')) got.push(piece as Buffer);
    t.ok(Buffer.concat(got).equals(value), JSON.stringify(options));
    const part: Buffer[] = [];
    const range = { offset: 200_000, length: 300_000 };
    for await (const piece of cloud.getStream('s', range)) part.push(piece as Buffer);
    t.ok(Buffer.concat(part).equals(value.subarray(200_000, 500_000)), 'a range of it');
  }
  await cloud.set('empty', '', { sealed: true, compress: 'lz4' });
  t.equal((await cloud.get('empty', { sealed: true })).length, 0);
  const failing = function* (): Generator<Buffer> {
    yield value;
    throw new Error('the source broke');
  };
  const attempt = cloud.storeStream(failing(), { key: 'broken', sealed: true, compress: 'lz4' });
  await t.rejects(attempt, /the source broke/);
  t.equal(await cloud.find('broken'), undefined);
  t.equal((await cloud.stats()).objects.uploadCount, 0, 'its room came back');
});

t.test("the writer's own notes come back whatever they begin with", async (t) => {
  const folder = labFolder(t);
  const node = await LabNode.start(t, { name: 'node', folder, offer: '64M' });
  const cloud = new MemCloud(node.socketPath);
  t.teardown(() => cloud.close());
  // These begin as a note on the encoding would.
  await cloud.set('k', 'value', { meta: Buffer.from('ME\x01\x04') });
  t.equal((await cloud.get('k')).toString(), 'value', 'and are not taken for one');
});
