/**
 * A DirectProvider in plain memory for tests of the way to it: exports are descriptions, tickets are
 * used once, one connection for each export, and whatever follows a preface is kept and sent back.
 * No keys, no expiry.
 */
import { randomBytes } from 'node:crypto';
import type { ByteStream, ByteStreamHandler } from '../../common/byte-stream.ts';
import { MemcloudError } from '../../common/errors.ts';
import type { NativeBuffer } from '../../common/native-memory.ts';
import type {
  DirectAccess,
  DirectExport,
  DirectProvider,
  DirectTicket,
  DirectTransport,
  NodeId,
} from '../../common/ports.ts';

interface HeldExport {
  readonly exportId: string;
  readonly holder: NodeId;
  readonly sizeBytes: number;
  readonly ttlMs: number;
  connection: EchoConnection | undefined;
}

/** Keeps what came and sends it back. */
class EchoConnection implements ByteStreamHandler {
  readonly stream: ByteStream;
  readonly exportId: string;
  received = Buffer.alloc(0);
  /** How often the end was told. */
  endCount = 0;

  constructor(stream: ByteStream, exportId: string) {
    this.stream = stream;
    this.exportId = exportId;
  }

  onBytes(input: NativeBuffer, start: number, end: number): number {
    const bytes = Buffer.from(input.bytes.subarray(start, end));
    this.received = Buffer.concat([this.received, bytes]);
    this.stream.send(bytes);
    return end;
  }

  onDrain(): void {
    // It sends no more than it was sent.
  }

  onClosed(): void {
    this.endCount += 1;
  }
}

/** Exports, tickets, connections. */
export class MemoryDirect implements DirectProvider {
  readonly exports = new Map<string, HeldExport>();
  readonly tickets = new Map<string, HeldExport>();
  /** Every connection that was ever taken over. */
  readonly connections: EchoConnection[] = [];
  /** Ticket ids that connections named, valid or not. */
  readonly named: string[] = [];
  readonly revoked: NodeId[] = [];
  /** The port that tickets name. */
  port = 7070;
  /** What tickets say whatever was asked for: a provider that is not what it should be. */
  transport: DirectTransport | undefined;

  openDirect(holder: NodeId): DirectAccess {
    return {
      open: ({ sizeBytes, ttlMs }) => this.#open(holder, sizeBytes, ttlMs),
      ticket: (exportId, _nonce, transport = 'tls') =>
        this.#ticket(this.#held(holder, exportId), transport),
      renew: (ids) => ids.filter((id) => this.exports.get(id)?.holder !== holder),
      close: (exportId) => this.#drop(this.#held(holder, exportId)),
      list: () => [...this.exports.values()].filter((held) => held.holder === holder).map(describe),
    };
  }

  takeConnection(stream: ByteStream, ticketId: string): ByteStreamHandler | undefined {
    this.named.push(ticketId);
    const held = this.tickets.get(ticketId);
    this.tickets.delete(ticketId);
    if (held === undefined) return undefined;
    held.connection?.stream.destroy();
    held.connection = new EchoConnection(stream, held.exportId);
    this.connections.push(held.connection);
    return held.connection;
  }

  revoke(holder: NodeId): void {
    this.revoked.push(holder);
    for (const held of this.exports.values()) if (held.holder === holder) this.#drop(held);
  }

  /** Ends every connection. */
  close(): void {
    for (const { stream } of this.connections) stream.destroy();
  }

  #open(holder: NodeId, sizeBytes: number, ttlMs: number): DirectExport {
    if (sizeBytes < 4096 || sizeBytes % 4096 !== 0 || ttlMs < 1000) {
      throw new MemcloudError('ERR_LEASE_INVALID', 'whole pages, ttl at least 1000 ms');
    }
    if (sizeBytes > 2 ** 40) throw new MemcloudError('ERR_LEASE_CAPACITY', 'no room');
    const exportId = randomBytes(8).toString('hex');
    const held = { exportId, holder, sizeBytes, ttlMs, connection: undefined };
    this.exports.set(exportId, held);
    return describe(held);
  }

  #ticket(held: HeldExport, transport: DirectTransport): DirectTicket {
    const ticketId = randomBytes(16).toString('hex');
    this.tickets.set(ticketId, held);
    const secret = randomBytes(32).toString('hex');
    return { ticketId, secret, port: this.port, transport: this.transport ?? transport };
  }

  #held(holder: NodeId, exportId: string): HeldExport {
    const held = this.exports.get(exportId);
    if (held?.holder !== holder) throw new MemcloudError('ERR_LEASE_UNKNOWN', 'no such export');
    return held;
  }

  #drop(held: HeldExport): void {
    held.connection?.stream.destroy();
    this.exports.delete(held.exportId);
    for (const [ticketId, of] of this.tickets) if (of === held) this.tickets.delete(ticketId);
  }
}

function describe({ exportId, sizeBytes, ttlMs, connection }: HeldExport): DirectExport {
  const connected = connection !== undefined && !connection.stream.closed;
  return { exportId, sizeBytes, residentBytes: 0, connected, ttlMs };
}
