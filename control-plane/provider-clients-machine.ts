/**
 * Who a provider lets in because the control plane says so: clients that are to present a token, and those
 * that have leases. A client is let in until {@link DISMISS_AFTER_MS} after the last of that ended, so that
 * one that renews, or takes the next lease, need not be let in anew. A machine: pure, time enters as an
 * argument; what is to be done about sessions is returned.
 */
import type { NodeId } from '../common/ports.ts';

/** How long a client stays let in after its last lease ended, milliseconds. */
export const DISMISS_AFTER_MS = 60_000;
/** Clients at once; the leader is refused beyond. */
export const CLIENT_COUNT_MAX = 4096;

interface Client {
  readonly publicKey: Uint8Array;
  readonly leases: Set<string>;
  /** It stays let in until then, and as long as it has leases. */
  untilMs: number;
}

/** See the top of the file. */
export class ProviderClients {
  readonly #clients = new Map<NodeId, Client>();
  readonly #clientOf = new Map<string, NodeId>();

  /** Leases of all clients. */
  get leaseCount(): number {
    return this.#clientOf.size;
  }

  /** The key of a client that is let in, 32 bytes. */
  keyOf(client: NodeId): Uint8Array | undefined {
    return this.#clients.get(client)?.publicKey;
  }

  /** Whether a client has leases here. */
  hasLeases(client: NodeId): boolean {
    return (this.#clients.get(client)?.leases.size ?? 0) > 0;
  }

  /** Whose a lease is; undefined when it is none of a client's that is let in. */
  clientOf(leaseId: string): NodeId | undefined {
    return this.#clientOf.get(leaseId);
  }

  /** A client is let in for `ttlMs` at least. @returns false when there are too many */
  admit(client: NodeId, publicKey: Uint8Array, ttlMs: number, nowMs: number): boolean {
    const known = this.#clients.get(client);
    if (known === undefined && this.#clients.size >= CLIENT_COUNT_MAX) return false;
    const untilMs = Math.max(known?.untilMs ?? 0, nowMs + ttlMs);
    if (known === undefined) this.#clients.set(client, { publicKey, leases: new Set(), untilMs });
    else known.untilMs = untilMs;
    return true;
  }

  /** A lease of a client begins; the client was let in, or is trusted and has this key. */
  begin(leaseId: string, client: NodeId, publicKey: Uint8Array): void {
    const known = this.#clients.get(client) ?? { publicKey, leases: new Set(), untilMs: 0 };
    known.leases.add(leaseId);
    this.#clients.set(client, known);
    this.#clientOf.set(leaseId, client);
  }

  /** A lease ended. */
  end(leaseId: string, nowMs: number): void {
    const nodeId = this.#clientOf.get(leaseId);
    const client = nodeId === undefined ? undefined : this.#clients.get(nodeId);
    this.#clientOf.delete(leaseId);
    if (client === undefined) return;
    client.leases.delete(leaseId);
    client.untilMs = Math.max(client.untilMs, nowMs + DISMISS_AFTER_MS);
  }

  /** Clients that need be let in no more; each is forgotten with {@link ProviderClients.forget}. */
  due(nowMs: number): NodeId[] {
    const due = [...this.#clients].filter(
      ([, { leases, untilMs }]) => leases.size === 0 && nowMs >= untilMs,
    );
    return due.map(([nodeId]) => nodeId);
  }

  /** A client was dismissed. */
  forget(client: NodeId): void {
    this.#clients.delete(client);
  }
}
