/**
 * Tickets that were given out and not used yet: each opens one data connection, once, soon. Taking
 * one removes it, whatever comes of the connection. Randomness and time are the caller's. Pure.
 */
import { DIRECT_TICKET_TTL_MS, type DirectTransport, type NodeId } from '../common/ports.ts';
import { DIRECT_TICKET_COUNT_MAX } from './constants.ts';

/** A ticket as the provider keeps it. */
export interface Ticket {
  /** Whose it is. */
  readonly holder: NodeId;
  /** What it opens. */
  readonly exportId: string;
  /** The provider's share of the keys, 32 bytes; zeroed by whoever took the ticket. */
  readonly secret: Buffer;
  /** The consumer's share, 32 bytes. */
  readonly consumerNonce: Buffer;
  /** What the connection must be. */
  readonly transport: DirectTransport;
}

interface OpenTicket {
  readonly ticket: Ticket;
  readonly endsAtMs: number;
}

/** The open tickets of a provider. */
export class TicketTable {
  readonly #tickets = new Map<string, OpenTicket>();

  /** True when `holder` may have one more. */
  hasRoom(holder: NodeId, nowMs: number): boolean {
    this.dropOld(nowMs);
    let count = 0;
    for (const { ticket } of this.#tickets.values()) if (ticket.holder === holder) count += 1;
    return count < DIRECT_TICKET_COUNT_MAX;
  }

  /** Keeps a ticket until it is taken or too old. */
  add(ticketId: string, ticket: Ticket, nowMs: number): void {
    this.#tickets.set(ticketId, { ticket, endsAtMs: nowMs + DIRECT_TICKET_TTL_MS });
  }

  /** Takes a ticket out; undefined when it is unknown, used or too old. */
  take(ticketId: string, nowMs: number): Ticket | undefined {
    this.dropOld(nowMs);
    const found = this.#tickets.get(ticketId);
    this.#tickets.delete(ticketId);
    return found?.ticket;
  }

  /** Forgets those that are too old. */
  dropOld(nowMs: number): void {
    this.#drop(({ endsAtMs }) => nowMs >= endsAtMs);
  }

  /** Forgets those of an export that ended. */
  dropExport(exportId: string): void {
    this.#drop(({ ticket }) => ticket.exportId === exportId);
  }

  #drop(unwanted: (open: OpenTicket) => boolean): void {
    for (const [ticketId, open] of this.#tickets) {
      if (!unwanted(open)) continue;
      open.ticket.secret.fill(0);
      this.#tickets.delete(ticketId);
    }
  }
}
