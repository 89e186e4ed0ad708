/**
 * A provider whose lies are in the protocol and not in the pages: it keeps what it is given and
 * answers as it likes. `answer` gives the pages of one request under the id of another that is in
 * flight, which no receiver can tell but by opening the pages; `short` answers with fewer pages than
 * were asked for and `ghost` answers a request that was never made: both break the protocol.
 *
 * It speaks through RawPeer, so nothing of the product keeps it from sending what it wants.
 */
import net from 'node:net';
import { NativeMemory } from '../../../common/native-memory.ts';
import { IoStatus, type NodeId, type SlabAccess } from '../../../common/ports.ts';
import { SEALED_PAGE_SIZE_BYTES } from '../../../common/units.ts';
import { serveControl } from '../../../peer/control-service.ts';
import { Identity } from '../../../peer/identity.ts';
import { RawPeer, type RawMessage } from '../raw-peer.ts';
import type { HostileSlabs } from './hostile-slabs.ts';

/** Lies in the protocol. */
export const WIRE_LIES = ['answer', 'short', 'ghost'] as const;
/** One of them. */
export type WireLie = (typeof WIRE_LIES)[number];
/** Of each, the chance for a read. */
export type WireRates = Partial<Record<WireLie, number>>;

/** Every consumer is one holder here: a test has one. */
const HOLDER: NodeId = 'f'.repeat(32);
/** Reads are held so long for another one to come, milliseconds. */
const HOLD_MS = 2;
const PAGE_COUNT_MAX = 64;

/** The donor. */
export class RawDonor {
  rates: WireRates = {};
  /** Of `answer`: pages served for another request; of the others: replies. */
  readonly counts: Record<WireLie, number> = { answer: 0, short: 0, ghost: 0 };
  readonly #access: SlabAccess;
  readonly #identity = Identity.ephemeral();
  readonly #server: net.Server;
  readonly #scratch = new NativeMemory(PAGE_COUNT_MAX * SEALED_PAGE_SIZE_BYTES);
  readonly #offeredBytes: number;

  constructor(name: string, slabs: HostileSlabs) {
    this.#access = slabs.openAccess(HOLDER);
    this.#offeredBytes = slabs.usage().offeredBytes;
    this.#server = net.createServer((socket) => {
      const peer = new RawPeer(socket, name, this.#identity);
      this.#serve(peer).catch(() => peer.destroy());
    });
  }

  get nodeId(): NodeId {
    return this.#identity.nodeId;
  }

  /** Listens; returns the port. */
  async listen(host: string): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(0, host, resolve));
    return (this.#server.address() as net.AddressInfo).port;
  }

  async #serve(peer: RawPeer): Promise<void> {
    await peer.handshake('responder');
    const usage = { offeredBytes: this.#offeredBytes, usedBytes: 0, residentBytes: 0 };
    await peer.accept([], { ...usage, leaseCount: 0 });
    const reads: RawMessage[] = [];
    for (;;) {
      const message = await peer.read();
      const { type, aux, idLow, idHigh, firstPage, pageCount } = message;
      if (type === 0x01) {
        reads.push(message);
        if (reads.length === 1) setTimeout(() => this.#answerReads(peer, reads.splice(0)), HOLD_MS);
      } else if (type === 0x02) {
        message.pages.copy(this.#scratch.bytes);
        const status = this.#access.writePages(aux, firstPage, pageCount, this.#scratch, 0);
        peer.send((writer) => writer.plain(0x82, status, idLow, idHigh));
      } else if (type === 0x03) {
        const status = this.#access.trimPages(aux, firstPage, pageCount);
        peer.send((writer) => writer.plain(0x83, status, idLow, idHigh));
      } else if (type === 0x10) {
        peer.send((writer) => writer.plain(0x90, 0, idLow, idHigh));
      } else if (type === 0x20) {
        const reply = serveControl({ slabs: this.#access, direct: undefined }, message.body);
        peer.send((writer) => writer.body(0xa0, idLow, idHigh, reply));
      } else if (type === 0x73) {
        return peer.destroy();
      }
    }
  }

  #answerReads(peer: RawPeer, reads: RawMessage[]): void {
    if (peer.closed) return;
    if (Math.random() < (this.rates.ghost ?? 0)) {
      this.counts.ghost += 1;
      peer.send((writer) => writer.pages(0x81, IoStatus.NO_LEASE, 999, 0xffffffff, 0, 0));
    }
    for (let at = 0; at < reads.length; at += 2) {
      const [one, other] = [reads[at], reads[at + 1]];
      if (one === undefined) return;
      if (other === undefined) this.#answer(peer, one, one);
      else if (this.#mayMix(one, other)) {
        this.counts.answer += 2 * one.pageCount;
        this.#answer(peer, one, other);
        this.#answer(peer, other, one);
      } else {
        this.#answer(peer, one, one);
        this.#answer(peer, other, other);
      }
    }
  }

  #mayMix(one: RawMessage, other: RawMessage): boolean {
    const apart = Math.abs(one.firstPage - other.firstPage) >= one.pageCount;
    const alike = one.pageCount === other.pageCount && (apart || one.aux !== other.aux);
    return alike && Math.random() < (this.rates.answer ?? 0);
  }

  /** Answers `request` with what `asked` asked for. */
  #answer(peer: RawPeer, request: RawMessage, asked: RawMessage): void {
    const { aux, firstPage } = asked;
    const short = request.pageCount > 1 && Math.random() < (this.rates.short ?? 0);
    if (short) this.counts.short += 1;
    const count = short ? request.pageCount - 1 : request.pageCount;
    peer.send((writer) => {
      const offset = writer.placePages(count);
      const status = this.#access.readPages(aux, firstPage, count, writer.pageMemory, offset);
      const done = status === IoStatus.OK;
      if (done) writer.keepPages(count);
      writer.pages(0x81, status, request.idLow, request.idHigh, done ? count : 0, 0);
    });
  }
}
