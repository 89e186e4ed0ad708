import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import tls from 'node:tls';
import t from 'tap';
import { tlsFromCertificates, tlsFromKeys, type ServerTls } from '../../nbd-server/tls.ts';
import { eventually, startNbdServer } from '../helpers/nbd-fixture.ts';
import { infoData, metaData, option, RawClient, request, u32 } from '../helpers/nbd-raw-client.ts';

const VECTORS = path.join(import.meta.dirname, '../../../test/vectors/nbd-tls');
const file = (name: string): Buffer => fs.readFileSync(path.join(VECTORS, name));
const ca = file('ca-cert.pem');
const MIB = 2 ** 20;
const [READ, WRITE, FLUSH] = [0, 1, 3];

/** A client that was granted STARTTLS and has not begun TLS. */
async function granted(target: { path: string }, before: Buffer[] = []): Promise<RawClient> {
  const client = await RawClient.connect(target);
  await client.read(18);
  client.send(u32(3));
  for (const bytes of before) {
    client.send(bytes);
    await client.optionReplies();
  }
  client.send(option(5));
  const reply = await client.optionReply();
  if (reply.type !== 1) throw new Error(`STARTTLS was refused: ${reply.type}`);
  return client;
}

/** Goes on over TLS; rejects when the TLS handshake fails. */
async function secured(client: RawClient, options: tls.ConnectionOptions): Promise<RawClient> {
  client.socket.removeAllListeners('data');
  const secure = tls.connect({ socket: client.socket, servername: 'localhost', ...options });
  const upgraded = new RawClient(secure);
  await new Promise<void>((resolve, reject) => {
    secure.once('secureConnect', resolve);
    secure.once('error', reject);
    secure.once('close', () => reject(new Error('closed')));
  });
  return upgraded;
}

async function go(client: RawClient): Promise<number> {
  client.send(option(7, infoData('memory')));
  return (await client.optionReplies()).at(-1)?.type ?? 0;
}

const required = { server: { tls: tlsFromCertificates('require', VECTORS, false) } };
const allowed = { server: { tls: tlsFromCertificates('allow', VECTORS, false) } };

t.test('a server that requires TLS serves only over it', async (t) => {
  const { target } = await startNbdServer(t, required);
  const plain = await RawClient.connect(target);
  await plain.read(18);
  plain.send(Buffer.concat([u32(3), option(7, infoData('memory'))]));
  t.equal((await plain.optionReply()).type, 0x80000005);
  plain.send(option(1, Buffer.from('memory')));
  t.equal(await plain.closed(), true, 'EXPORT_NAME cannot be refused otherwise');
  const client = await secured(await granted(target), { ca });
  t.equal(await go(client), 1);
  const payload = Buffer.from(Array.from({ length: MIB }, (_, i) => (i >> 4) % 251));
  t.match(await client.ask({ command: WRITE, length: MIB, payload }), { error: 0 });
  const read = await client.ask({ command: READ, length: MIB }, MIB);
  t.ok(read.data.equals(payload));
  client.destroy();
});

t.test('what was negotiated in the clear is forgotten', async (t) => {
  const { target } = await startNbdServer(t, allowed);
  const clear = [option(8), option(10, metaData('memory', ['base:allocation']))];
  const client = await secured(await granted(target, clear), { ca });
  t.equal(await go(client), 1);
  const reply = await client.ask({ command: READ, length: 512 }, 512);
  t.equal(reply.type, undefined, 'replies are simple again');
  t.match(await client.ask({ command: 7, length: 512 }), { error: 22 }, 'and no context is set');
  client.destroy();
});

t.test('a server that allows TLS also serves in the clear, with the same care', async (t) => {
  const { target, server } = await startNbdServer(t, { ...allowed, sizeBytes: 8 * MIB });
  const client = await RawClient.open(target, 'structured');
  const pattern = Buffer.from(Array.from({ length: 8 * MIB }, (_, i) => (i >> 8) % 253));
  t.match(await client.ask({ command: WRITE, length: 8 * MIB, payload: pattern }), { error: 0 });
  client.socket.pause();
  const count = 400;
  for (let index = 0; index < count; index += 1) {
    const offset = (index % 31) * 262_144;
    client.request({ command: READ, cookie: BigInt(index), offset, length: 262_144 });
    if (index % 10 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.ok((server.stats.requests['NBD_CMD_READ'] ?? 0) < 300, 'it stopped reading');
  client.socket.resume();
  const seen = new Set<bigint>();
  for (let index = 0; index < count; index += 1) {
    const reply = await client.reply();
    seen.add(reply.cookie);
    const offset = (Number(reply.cookie) % 31) * 262_144;
    if (!reply.data.subarray(8).equals(pattern.subarray(offset, offset + 262_144))) {
      t.fail(`reply ${reply.cookie}`);
    }
  }
  t.equal(seen.size, count);
  const many = Array.from({ length: 1000 }, (_, i) =>
    request({ command: READ, cookie: BigInt(i), offset: i * 8192, length: 4096 }),
  );
  client.send(Buffer.concat(many));
  for (let index = 0; index < many.length; index += 1) t.match(await client.reply(), { error: 0 });
  client.request({ command: 2 });
  t.equal(await client.closed(), true, 'DISC');
});

t.test('bytes in the clear behind STARTTLS close the connection', async (t) => {
  const { target } = await startNbdServer(t, required);
  const client = await RawClient.connect(target);
  await client.read(18);
  client.send(Buffer.concat([u32(3), option(5), option(7, infoData('memory'))]));
  await client.optionReply().catch(() => undefined);
  t.equal(await client.closed(), true);
});

t.test('what is no TLS closes the connection, and only that one', async (t) => {
  const { target, server } = await startNbdServer(t, required);
  const witness = await secured(await granted(target), { ca });
  t.equal(await go(witness), 1);
  const client = await granted(target);
  client.send(Buffer.alloc(200, 'x'));
  await eventually(() => server.stats.connectionCount === 1, 'garbage is cut');
  const old = await granted(target);
  const options = { ca, maxVersion: 'TLSv1.1', minVersion: 'TLSv1.1' } as const;
  await t.rejects(secured(old, { ...options, ciphers: 'ALL:@SECLEVEL=0' }), 'TLS 1.1');
  await eventually(() => server.stats.connectionCount === 1, 'old TLS is cut');
  t.match(await witness.ask({ command: FLUSH }), { error: 0 });
  witness.destroy();
});

t.test('a TLS handshake that does not end in time is closed', async (t) => {
  const tlsOf = required.server;
  const { target } = await startNbdServer(t, { server: { ...tlsOf, handshakeTimeoutMs: 150 } });
  const client = await granted(target);
  t.equal(await client.closed(), true);
});

t.test('a client certificate is demanded and verified', async (t) => {
  const verifying = { server: { tls: tlsFromCertificates('require', VECTORS, true) } };
  const { target } = await startNbdServer(t, verifying);
  const good = { ca, cert: file('client-cert.pem'), key: file('client-key.pem') };
  const client = await secured(await granted(target), good);
  t.equal(await go(client), 1);
  client.destroy();
  const bad = { ca, cert: file('stranger-cert.pem'), key: file('stranger-key.pem') };
  for (const [what, options] of [['none', { ca }] as const, ['a stranger', bad] as const]) {
    // TLS 1.3 tells a client of its refusal only after the client believes itself connected.
    const refused = secured(await granted(target), options).then(go);
    await t.rejects(refused, what);
  }
});

t.test('pre-shared keys', async (t) => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'nbd-psk-'));
  t.teardown(() => fs.rmSync(directory, { recursive: true }));
  const keys = path.join(directory, 'keys.psk');
  const key = '00112233445566778899aabbccddeeff';
  fs.writeFileSync(keys, `alice:${key}\nbob:${'ab'.repeat(32)}\n`);
  const { target } = await startNbdServer(t, { server: { tls: tlsFromKeys('require', keys) } });
  const as = (identity: string, hex: string): tls.ConnectionOptions => ({
    ciphers: 'PSK',
    maxVersion: 'TLSv1.2',
    pskCallback: () => ({ psk: Buffer.from(hex, 'hex'), identity }),
    checkServerIdentity: () => undefined,
  });
  const client = await secured(await granted(target), as('alice', key));
  t.equal(await go(client), 1);
  client.destroy();
  await t.rejects(secured(await granted(target), as('alice', 'ff'.repeat(16))), 'a wrong key');
  await t.rejects(secured(await granted(target), as('carol', key)), 'an unknown identity');
});

t.test('files that cannot serve are refused at the start', async (t) => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'nbd-tls-'));
  t.teardown(() => fs.rmSync(directory, { recursive: true }));
  const load = (): ServerTls => tlsFromCertificates('require', directory, false);
  t.throws(load, { code: 'ERR_USAGE' }, 'none');
  for (const name of ['server-cert.pem', 'server-key.pem', 'ca-cert.pem']) {
    fs.writeFileSync(path.join(directory, name), 'not a certificate');
  }
  t.throws(load, { code: 'ERR_USAGE' }, 'malformed');
  const keys = path.join(directory, 'keys.psk');
  t.throws(() => tlsFromKeys('require', keys), { code: 'ERR_USAGE' });
  for (const line of ['alice', 'alice:12', 'alice:xyz', `:${'00'.repeat(16)}`]) {
    fs.writeFileSync(keys, line);
    t.throws(() => tlsFromKeys('require', keys), { code: 'ERR_USAGE' }, line);
  }
});
