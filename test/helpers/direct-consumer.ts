/**
 * A consumer of direct exports in user space, the kernel's stand-in: it asks for a ticket, sends the
 * preface, speaks records. And a door in front of it: a Unix socket on which NBD clients that know
 * nothing of records (ours, nbdinfo, nbdcopy, fio) reach the export.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import path from 'node:path';
import type { Test } from 'tap';
import { ByteStream, type ByteStreamHandler } from '../../common/byte-stream.ts';
import type { NativeBuffer } from '../../common/native-memory.ts';
import type { NbdStream } from '../../common/nbd-stream.ts';
import type { DirectTicket, DirectTransport } from '../../common/ports.ts';
import { encodePreface } from '../../direct/kernel-tls.ts';
import { deriveDirectKeys, derivePlainProof } from '../../direct/keys.ts';
import { RecordStream } from '../../direct/record-stream.ts';
import type { DirectHost } from './direct-host.ts';
import { temporaryFolder } from './nbd-servers.ts';
import { Recorder } from './record-pair.ts';

const STREAM_OPTIONS = { inputSizeBytes: 2 ** 21, outputChunkSizeBytes: 2 ** 20, timeoutMs: 5000 };

/** Does nothing with a stream. */
export const NO_HANDLER: ByteStreamHandler = {
  onBytes: (_input, start) => start,
  onDrain: () => undefined,
  onClosed: () => undefined,
};

/** A connection that has sent its preface; `records` has no handler yet. */
export interface DirectConsumer {
  below: ByteStream;
  records: RecordStream;
}

/** Connects with a ticket. */
export async function connectWithTicket(
  ticket: DirectTicket,
  consumerNonce: string,
): Promise<DirectConsumer> {
  const below = await ByteStream.connect(
    { host: '127.0.0.1', port: ticket.port },
    STREAM_OPTIONS,
    NO_HANDLER,
  );
  const ticketId = Buffer.from(ticket.ticketId, 'hex');
  const keys = deriveDirectKeys({
    ticketId,
    secret: Buffer.from(ticket.secret, 'hex'),
    consumerNonce: Buffer.from(consumerNonce, 'hex'),
  });
  below.send(encodePreface(ticketId));
  const records = new RecordStream({ below, writeKeys: keys.consumer, readKeys: keys.provider });
  below.setHandler(records);
  return { below, records };
}

/** A bare connection: preface and proof, no records; what comes back is recorded. */
export async function connectPlain(
  host: DirectHost,
  exportId: string,
  proof?: Uint8Array,
  given?: { ticket: DirectTicket; nonce: string },
): Promise<{ below: ByteStream; recorder: Recorder }> {
  const nonce = given?.nonce ?? randomBytes(32).toString('hex');
  const ticket = given?.ticket ?? host.access.ticket(exportId, nonce, 'plain');
  const recorder = new Recorder();
  const target = { host: '127.0.0.1', port: ticket.port };
  const below = await ByteStream.connect(target, STREAM_OPTIONS, recorder);
  const ticketId = Buffer.from(ticket.ticketId, 'hex');
  below.send(encodePreface(ticketId));
  const right = derivePlainProof({
    ticketId,
    secret: Buffer.from(ticket.secret, 'hex'),
    consumerNonce: Buffer.from(nonce, 'hex'),
  });
  below.send(proof ?? right);
  return { below, recorder };
}

/** Asks for a ticket and connects. */
export function connectDirect(host: DirectHost, exportId: string): Promise<DirectConsumer> {
  const consumerNonce = randomBytes(32).toString('hex');
  return connectWithTicket(host.access.ticket(exportId, consumerNonce), consumerNonce);
}

/** Opens the door: each client of the Unix socket gets a data connection of its own. */
export async function startDirectDoor(
  t: Test,
  host: DirectHost,
  exportId: string,
  transport: DirectTransport = 'tls',
): Promise<{ path: string }> {
  const place = path.join(temporaryFolder(t), 'direct.sock');
  const listener = net.createServer((socket) => {
    socket.on('error', () => undefined);
    socket.pause();
    const connected: Promise<NbdStream> =
      transport === 'tls'
        ? connectDirect(host, exportId).then(({ records }) => records)
        : connectPlain(host, exportId).then(({ below }) => below);
    void connected.then((records) => {
      socket.on('close', () => records.destroy());
      records.setHandler({
        onBytes(input: NativeBuffer, start: number, end: number): number {
          const room = socket.write(Buffer.from(input.bytes.subarray(start, end)));
          if (!room) {
            records.pause();
            socket.once('drain', () => records.resume());
          }
          return end;
        },
        onDrain: () => socket.resume(),
        onClosed: () => socket.destroy(),
      });
      socket.on('data', (bytes: Buffer) => {
        records.send(bytes);
        if (records.backlogBytes > 2 ** 22) socket.pause();
      });
      socket.resume();
    });
  });
  listener.listen(place);
  await once(listener, 'listening');
  t.teardown(() => listener.close());
  return { path: place };
}
