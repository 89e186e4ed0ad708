/**
 * What programs written for the JavaScript SDK of the first MemCloud do, call by call, as a program of its own
 * that imports the package by its name: https://github.com/vibhanshu2001/memcloud, js-sdk/README.md and
 * examples/nodejs. Without a peer, and with one, whose row of `peers()` they take apart.
 */
import fs from 'node:fs';
import path from 'node:path';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import t, { type Test } from 'tap';
import { LabNode, labFolder } from '../helpers/lab-node.ts';

/** Below the package, so that its own name leads to it. */
const BESIDE = import.meta.dirname;

const PROGRAMS: Readonly<Record<string, string>> = {
  // js-sdk/README.md, "Quick Start", and examples/nodejs/index.ts
  'quick start': `
    const handle = await cloud.store('Hello, MemCloud!');
    say(typeof handle.id);
    const data = await cloud.load(handle.id);
    say(data.toString());
    await cloud.set('user:123', JSON.stringify({ name: 'Alice', role: 'admin' }));
    const user = await cloud.get('user:123');
    say(JSON.parse(user.toString()).role);
    const peers = await cloud.peers();
    if (peers.length > 0) {
      const id = peers[0].split(' ')[0];
      const remote = await cloud.store('Data for neighbor', id);
      say((await cloud.load(remote.id)).toString());
      const whole = await cloud.store('by the whole row', peers[0]);
      say((await cloud.load(whole.id)).toString());
      await cloud.updatePeerQuota(id, 2 ** 26).catch((error) => say(error.code));
      await cloud.free(remote.id);
    }
    await cloud.free(handle.id);
  `,
  // examples/nodejs/streaming-offload.ts: a file goes as a stream, in great chunks, and comes back whole
  streaming: `
    const file = process.argv[2] + '/stream.bin';
    fs.writeFileSync(file, Buffer.alloc(10 * 1024 * 1024, 'x'));
    const peers = await cloud.peers();
    const target = peers.length > 0 ? peers[0].split(' ')[0] : undefined;
    const source = fs.createReadStream(file, { highWaterMark: 1024 * 1024 });
    const handle = await cloud.storeStream(source, { target });
    const back = await cloud.load(handle.id);
    say(back.equals(fs.readFileSync(file)));
  `,
  // examples/nodejs/large-offload.ts: one large buffer
  large: `
    const size = 20 * 1024 * 1024;
    const data = Buffer.alloc(size);
    data[0] = 0xde;
    data[size - 1] = 0xad;
    const peers = await cloud.peers();
    const target = peers.length === 0 ? undefined : peers[0].split(' ')[0];
    const handle = await cloud.store(data, target);
    const back = await cloud.load(handle.id);
    say(back.length === size && back[0] === 0xde && back[size - 1] === 0xad);
  `,
  // examples/nodejs/log-archiver.ts: lines through gzip
  archive: `
    const lines = Readable.from((function* () {
      for (let index = 0; index < 20000; index += 1) yield JSON.stringify({ index }) + '\\n';
    })());
    const peers = await cloud.peers();
    const target = peers.length > 0 ? peers[0].split(' ')[0] : undefined;
    const handle = await cloud.storeStream(lines.pipe(zlib.createGzip()), { target });
    const text = zlib.gunzipSync(await cloud.load(handle.id)).toString();
    say(text.split('\\n').length);
  `,
};

const ANSWERS: Readonly<Record<string, { alone: string[]; withPeer: string[] }>> = {
  'quick start': {
    alone: ['string', 'Hello, MemCloud!', 'admin'],
    withPeer: ['string', 'Hello, MemCloud!', 'admin', 'Data for neighbor', 'by the whole row'],
  },
  streaming: { alone: ['true'], withPeer: ['true'] },
  large: { alone: ['true'], withPeer: ['true'] },
  archive: { alone: ['20001'], withPeer: ['20001'] },
};

/** Runs a program with the daemon of `socketPath` as the usual one. */
async function run(t: Test, name: string, socketPath: string): Promise<string[]> {
  const folder = labFolder(t);
  const file = path.join(BESIDE, `.program-${process.pid}-${name.replace(' ', '-')}.mjs`);
  t.teardown(() => fs.rmSync(file, { force: true }));
  fs.writeFileSync(
    file,
    `import { MemCloud } from 'memcloud';
    import * as fs from 'node:fs';
    import * as zlib from 'node:zlib';
    import { Readable } from 'node:stream';
    const say = (what) => process.stdout.write(what + '\\n');
    const cloud = new MemCloud();
    async function main() {
      await cloud.connect();
      ${PROGRAMS[name]}
      cloud.close();
    }
    await main();`,
  );
  const child = spawn(process.execPath, [file, folder], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, MEMCLOUD_SOCKET: socketPath },
  });
  let said = '';
  let complaint = '';
  child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (complaint += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  t.equal(code, 0, `${name} ends by itself, well ${complaint}`);
  return said.trimEnd().split('\n');
}

t.test('with a daemon alone', async (t) => {
  const node = await LabNode.start(t, { name: 'one', folder: labFolder(t), offer: '256M' });
  for (const name of Object.keys(PROGRAMS)) {
    t.same(await run(t, name, node.socketPath), ANSWERS[name]?.alone, name);
  }
});

t.test('with a peer, on which values are then', async (t) => {
  const folder = labFolder(t);
  const provider = await LabNode.start(t, { name: 'alpha', folder, offer: '256M' });
  const connect = [provider.peerAddress];
  const consumer = await LabNode.start(t, { name: 'consumer', folder, offer: '64M', connect });
  await consumer.waitForPeers(1);
  for (const name of Object.keys(PROGRAMS)) {
    const said = await run(t, name, consumer.socketPath);
    t.same(
      said.filter((line) => line !== 'ERR_UNSUPPORTED'),
      ANSWERS[name]?.withPeer,
      name,
    );
  }
  t.ok((await provider.usedBytes()) > 30 * 2 ** 20, 'they are there');
});
