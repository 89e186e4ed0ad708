/** Which data connection counts: only one that has proved its keys, whoever knows the id of a ticket. */
import { randomBytes } from 'node:crypto';
import net from 'node:net';
import t from 'tap';
import { hasWireGuard } from '../../common/wireguard.ts';
import type { PlainPolicy } from '../../direct/export-connections.ts';
import { beginPlainConnection } from '../../direct/kernel-tls.ts';
import { derivePlainProof } from '../../direct/keys.ts';
import { NbdClient } from '../../nbd-server/client/connection.ts';
import { KernelSocket } from '../../nbd-server/client/kernel-socket.ts';
import {
  connectDirect,
  connectPlain,
  connectWithTicket,
  startDirectDoor,
} from '../helpers/direct-consumer.ts';
import { startDirectHost } from '../helpers/direct-host.ts';
import { eventually } from '../helpers/nbd-fixture.ts';
import { Recorder } from '../helpers/record-pair.ts';

const MIB = 2 ** 20;
const NONCE = '5a'.repeat(32);
const CLIENT_FLAGS = Buffer.from([0, 0, 0, 3]);
const EVERYWHERE: PlainPolicy = {
  everywhere: true,
  hasLink: () => false,
  linkTo: () => undefined,
};

const prefaceOf = (ticketId: string): Buffer =>
  Buffer.concat([Buffer.from('MCDIRECT'), Buffer.from(ticketId, 'hex')]);

t.test('who saw the id of a ticket cuts nobody off: nothing, noise, wrong keys', async (t) => {
  const host = await startDirectHost(t);
  const { exportId } = host.access.open({ sizeBytes: 8 * MIB, ttlMs: 60_000 });
  const client = await NbdClient.connect(await startDirectDoor(t, host, exportId));
  await client.write(0, Buffer.alloc(4096, 1));
  for (const after of [Buffer.alloc(0), randomBytes(100), Buffer.alloc(5)]) {
    const { ticketId } = host.access.ticket(exportId, NONCE);
    const socket = net.connect(host.port, '127.0.0.1').on('error', () => undefined);
    let greeted = 0;
    socket.on('data', (part) => (greeted += part.length));
    socket.write(Buffer.concat([prefaceOf(ticketId), after]));
    // The greeting may be lost with a connection that is cut for its noise.
    await eventually(() => greeted > 0 || socket.destroyed, 'the ticket was taken');
    t.ok((await client.read(0, 4096)).equals(Buffer.alloc(4096, 1)), 'the older one lives');
    t.equal(host.access.list()[0]?.connected, true);
    socket.destroy();
  }
  const stolen = { ...host.access.ticket(exportId, NONCE), secret: '00'.repeat(32) };
  const { records } = await connectWithTicket(stolen, NONCE);
  const recorder = new Recorder();
  records.setHandler(recorder);
  records.send(CLIENT_FLAGS);
  await recorder.ended;
  t.ok((await client.read(0, 4096)).equals(Buffer.alloc(4096, 1)), 'nor do wrong keys');
  t.equal(host.access.list()[0]?.connected, true);
  await client.close();
});

t.test(
  'the older one is cut by the first record that verifies, before it is executed',
  async (t) => {
    const host = await startDirectHost(t);
    const { exportId } = host.access.open({ sizeBytes: 8 * MIB, ttlMs: 60_000 });
    const older = new Recorder();
    const first = await connectDirect(host, exportId);
    first.records.setHandler(older);
    first.records.send(CLIENT_FLAGS);
    await eventually(() => host.access.list()[0]?.connected === true, 'the first counts');
    const second = await connectDirect(host, exportId);
    const newer = new Recorder();
    second.records.setHandler(newer);
    await eventually(() => newer.bytes.length > 0, 'the second is greeted');
    t.equal(older.closedCount, 0, 'and the first lives on');
    second.records.send(CLIENT_FLAGS);
    await older.ended;
    t.equal(host.access.list()[0]?.connected, true);
    second.records.destroy();
    await eventually(() => host.access.list()[0]?.connected === false, 'the end of the one counts');
  },
);

t.test(
  'one that has not proved itself does not keep an export alive, and ends with it',
  async (t) => {
    const host = await startDirectHost(t);
    const { exportId } = host.access.open({ sizeBytes: MIB, ttlMs: 60_000 });
    const { records } = await connectDirect(host, exportId);
    const recorder = new Recorder();
    records.setHandler(recorder);
    await eventually(() => recorder.bytes.length > 0, 'it is greeted');
    host.access.close(exportId);
    await recorder.ended;
    t.same(host.access.list(), []);
  },
);

t.test('plain is refused unless the operator allows it', async (t) => {
  const host = await startDirectHost(t);
  const { exportId } = host.access.open({ sizeBytes: MIB, ttlMs: 60_000 });
  t.throws(() => host.access.ticket(exportId, NONCE, 'plain'), {
    code: 'ERR_UNSUPPORTED',
    message: /only over WireGuard.*--allow-plain/,
  });
  t.equal(host.access.ticket(exportId, NONCE).transport, 'tls', 'TLS unless told');
});

t.test('where there is a tunnel, a plain connection from outside of it is closed', async (t) => {
  const plain = { everywhere: false, hasLink: () => true, linkTo: () => undefined };
  const host = await startDirectHost(t, { plain });
  const { exportId } = host.access.open({ sizeBytes: MIB, ttlMs: 60_000 });
  const { below, recorder } = await connectPlain(host, exportId);
  await recorder.ended;
  t.equal(recorder.bytes.length, 0, 'without a word');
  t.equal(host.refusedCount(), 1);
  below.destroy();
});

t.test('a tunnel that the socket cannot be bound to is none', async (t) => {
  const plain = { everywhere: false, hasLink: () => true, linkTo: () => 'no-such-wg0' };
  const host = await startDirectHost(t, { plain });
  const { exportId } = host.access.open({ sizeBytes: MIB, ttlMs: 60_000 });
  const { below, recorder } = await connectPlain(host, exportId);
  await recorder.ended;
  t.equal(host.refusedCount(), 1);
  below.destroy();
});

t.test('a plain connection serves once it has proved its ticket', async (t) => {
  const host = await startDirectHost(t, { plain: EVERYWHERE });
  const { exportId } = host.access.open({ sizeBytes: 8 * MIB, ttlMs: 60_000 });
  const door = await startDirectDoor(t, host, exportId, 'plain');
  const client = await NbdClient.connect(door, { exportName: exportId });
  const content = randomBytes(3 * MIB);
  await client.write(777, content);
  t.ok((await client.read(777, content.length)).equals(content));
  const second = await NbdClient.connect(door);
  await t.rejects(client.read(0, 10), { code: 'ERR_NBD_CLOSED' }, 'the fence is the same');
  t.ok((await second.read(777, content.length)).equals(content));
  await second.trim(0, 8 * MIB);
  t.equal(host.access.list()[0]?.residentBytes, 0);
  await second.close();
  await eventually(() => host.access.list()[0]?.connected === false, 'the connection ended');
  await client.close();
});

t.test('a wrong proof, half a proof and none serve nothing and cut nobody off', async (t) => {
  const host = await startDirectHost(t, { plain: EVERYWHERE });
  const { exportId } = host.access.open({ sizeBytes: 8 * MIB, ttlMs: 60_000 });
  const client = await NbdClient.connect(await startDirectDoor(t, host, exportId, 'plain'));
  for (const proof of [Buffer.alloc(32), Buffer.alloc(31), Buffer.alloc(0)]) {
    const { below, recorder } = await connectPlain(host, exportId, proof);
    below.send(CLIENT_FLAGS);
    if (proof.length + CLIENT_FLAGS.length >= 32) await recorder.ended;
    else await new Promise((resolve) => setTimeout(resolve, 50));
    t.equal(recorder.bytes.subarray(18).length, 0, 'nothing but the greeting');
    t.ok((await client.read(0, 4096)).equals(Buffer.alloc(4096)));
    below.destroy();
  }
  await client.close();
});

t.test('nobody on the way turns TLS into plain, or plain into TLS', async (t) => {
  const host = await startDirectHost(t, { plain: EVERYWHERE });
  const { exportId } = host.access.open({ sizeBytes: 8 * MIB, ttlMs: 60_000 });
  const tls = host.access.ticket(exportId, NONCE);
  // He has even the secret: the proof of a plain connection is no record, and is not taken for one.
  const bare = await connectPlain(host, exportId, undefined, { ticket: tls, nonce: NONCE });
  bare.below.send(CLIENT_FLAGS);
  await bare.recorder.ended;
  t.notMatch(bare.recorder.bytes.toString('latin1'), /NBDMAGIC/, 'not even the greeting is bare');
  const plain = host.access.ticket(exportId, NONCE, 'plain');
  const sealed = await connectWithTicket(plain, NONCE);
  const recorder = new Recorder();
  sealed.records.setHandler(recorder);
  sealed.records.send(CLIENT_FLAGS);
  await recorder.ended;
  t.equal(recorder.bytes.length, 0, 'a consumer of TLS takes no bare byte');
  t.equal(host.access.list()[0]?.connected, false);
});

t.test('this machine says whether it has a tunnel without failing', async (t) => {
  t.type(hasWireGuard(), 'boolean');
});

t.test('a raw socket of the consumer, bound to one interface, begins and negotiates', async (t) => {
  const host = await startDirectHost(t, { plain: EVERYWHERE });
  const { exportId } = host.access.open({ sizeBytes: 8 * MIB, ttlMs: 60_000 });
  const ticket = host.access.ticket(exportId, NONCE, 'plain');
  const { ticketId, secret, port } = ticket;
  const begin = (fd: number): void =>
    beginPlainConnection(fd, { ticketId, secret, consumerNonce: NONCE });
  const target = { host: '127.0.0.1', port };
  const socket = await KernelSocket.connect(target, {
    exportName: exportId,
    bindTo: 'lo',
    prepare: begin,
  });
  t.equal(socket.export.sizeBytes, 8 * MIB, 'the kernel would read its first reply next');
  t.equal(host.access.list()[0]?.connected, true);
  await t.rejects(
    KernelSocket.connect(target, { exportName: exportId, bindTo: 'no-such-wg0', prepare: begin }),
    { code: 'ERR_NATIVE', message: /no-such-wg0/ },
    'an interface that is gone is an error, not another way',
  );
  await t.rejects(
    KernelSocket.connect(target, { exportName: exportId, prepare: begin }),
    { code: 'ERR_NBD_CLOSED' },
    'the ticket is used up',
  );
  const other = host.access.ticket(exportId, NONCE, 'plain');
  await t.rejects(
    KernelSocket.connect(target, {
      exportName: exportId,
      prepare: (fd) =>
        beginPlainConnection(fd, { ...other, secret: '00'.repeat(32), consumerNonce: NONCE }),
    }),
    { code: 'ERR_NBD_CLOSED' },
    'a wrong proof is greeted at most',
  );
  t.equal(host.access.list()[0]?.connected, true, 'and the first lives on');
  socket.close();
  await eventually(() => host.access.list()[0]?.connected === false, 'it ended');
});

t.test('a proof and what follows it may come in any two pieces', async (t) => {
  const host = await startDirectHost(t, { plain: EVERYWHERE });
  const { exportId } = host.access.open({ sizeBytes: MIB, ttlMs: 60_000 });
  for (let at = 0; at <= 36; at += 1) {
    const ticket = host.access.ticket(exportId, NONCE, 'plain');
    const material = {
      ticketId: Buffer.from(ticket.ticketId, 'hex'),
      secret: Buffer.from(ticket.secret, 'hex'),
      consumerNonce: Buffer.from(NONCE, 'hex'),
    };
    const bytes = Buffer.concat([derivePlainProof(material), CLIENT_FLAGS]);
    const socket = net.connect({ host: '127.0.0.1', port: host.port, noDelay: true });
    socket.on('error', () => undefined).on('data', () => undefined);
    socket.write(Buffer.concat([prefaceOf(ticket.ticketId), bytes.subarray(0, at)]));
    await new Promise((resolve) => setTimeout(resolve, 5));
    socket.write(bytes.subarray(at));
    await eventually(() => host.access.list()[0]?.connected === true, `cut at ${at}`);
    socket.destroy();
    await eventually(() => host.access.list()[0]?.connected === false, 'it ended');
  }
});
