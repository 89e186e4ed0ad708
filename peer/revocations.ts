/**
 * What nodes tell each other about keys that they trust no more. Each node tells the peers that it
 * trusts the whole list of what lost its trust, when the list changes and when a session begins; it
 * never passes on what it heard. The receiver shows it to its human and, unless it was told to
 * (`obey-revocations`), does nothing else: otherwise one peer could take all others away from a node.
 *
 * A decision of the own human that is younger than a revocation stands against it. Times travel as ages,
 * so that clocks need not agree.
 */
import type { Logger } from '../common/log.ts';
import type { NodeId } from '../common/ports.ts';
import { PEER_COUNT_MAX } from './constants.ts';
import type { RevokedNode } from './control.ts';
import type { PeerIdentity } from './credentials.ts';
import type { TrustStore } from './trust.ts';
import type { TrustEntry } from './trust-file.ts';

/** Warnings that are written at most, of one process: a peer could take back and repeat without end. */
const WARNING_COUNT_MAX = 1024;

/** What it is made of. */
export interface RevocationsOptions {
  /** Whom we trust. */
  readonly trust: TrustStore;
  /** Whether a revocation by a trusted peer counts here. */
  readonly obey?: boolean;
  /** Where they are noted. */
  readonly logger: Logger;
  /** The wall clock, milliseconds since 1970: decisions outlive a process. */
  readonly wallClockMs?: () => number;
}

/** A session, as far as it matters here. */
export interface ToldSession {
  /** The other node. */
  readonly peer: PeerIdentity;
  /** Its lane; empty for the node itself. */
  readonly lane: string;
  /** Sends the list. */
  tellRevoked(revoked: readonly RevokedNode[]): void;
}

/** A revocation that trusted peers told of. Every field is safe to print. */
export interface HeardRevocation {
  /** The node that lost their trust. */
  readonly nodeId: NodeId;
  /** Its name here. */
  readonly name: string;
  /** The names of those who trust it no more. */
  readonly by: readonly string[];
  /** Whether it is still trusted here. */
  readonly isTrusted: boolean;
}

/** The revocations that this node tells and has heard. */
export class Revocations {
  /** Called when a trusted peer tells of a node that was not known to have lost its trust. */
  onHeard: (heard: HeardRevocation) => void = () => undefined;
  readonly #trust: TrustStore;
  readonly #logger: Logger;
  readonly #wallClockMs: () => number;
  /** By the node that told, by the node that it revoked: when, by our clock. */
  readonly #told = new Map<NodeId, ReadonlyMap<NodeId, number>>();
  readonly #warned = new Set<string>();
  #obey: boolean;

  constructor(options: RevocationsOptions) {
    this.#trust = options.trust;
    this.#logger = options.logger;
    this.#obey = options.obey ?? false;
    this.#wallClockMs = options.wallClockMs ?? Date.now;
  }

  /** Whether a revocation by a trusted peer counts here; from now on, and for what was heard before. */
  setObey(obey: boolean): void {
    this.#obey = obey;
    if (obey) for (const nodeId of this.#everyRevoked()) this.#follow(nodeId);
  }

  /** What is told to a trusted peer. */
  ours(): RevokedNode[] {
    const nowMs = this.#wallClockMs();
    return this.#trust.revocations.map(({ nodeId, atMs }) => {
      return { nodeId, ageS: Math.max(0, Math.round((nowMs - atMs) / 1000)) };
    });
  }

  /** Tells whoever of some peers is trusted for good; their lanes are no nodes. */
  tell(sessions: Iterable<ToldSession>): void {
    const ours = this.ours();
    for (const session of sessions) {
      if (session.lane === '' && this.#isTrusted(session.peer.nodeId)) session.tellRevoked(ours);
    }
  }

  /** Tells a peer with whom a session begins, if there is something to tell. */
  greet(session: ToldSession): void {
    if (this.#trust.revocations.length > 0) this.tell([session]);
  }

  /** A peer has told its list, which takes the place of the one before. */
  hear({ nodeId: teller }: PeerIdentity, list: readonly RevokedNode[]): void {
    if (!this.#isTrusted(teller)) return;
    const nowMs = this.#wallClockMs();
    const others = list.filter(({ nodeId }) => nodeId !== teller);
    this.#told.delete(teller);
    if (others.length === 0) return;
    this.#told.set(
      teller,
      new Map(others.map(({ nodeId, ageS }) => [nodeId, nowMs - ageS * 1000])),
    );
    if (this.#told.size > PEER_COUNT_MAX) {
      const oldest = this.#told.keys().next();
      if (oldest.done !== true) this.#told.delete(oldest.value);
    }
    for (const { nodeId } of others) {
      this.#warn(teller, nodeId);
      this.#follow(nodeId);
    }
  }

  /** The names of trusted peers that trust a node no more, and said so after we decided about it. */
  revokedBy(nodeId: NodeId): string[] {
    const entry = this.#trust.entryOf(nodeId);
    return entry === undefined ? [] : this.#tellersOf(entry).map(({ name }) => name);
  }

  /** Of the keys that were decided about here, those that lost the trust of trusted peers. */
  heard(): HeardRevocation[] {
    return this.#everyRevoked().flatMap((nodeId) => {
      const entry = this.#trust.entryOf(nodeId);
      if (entry === undefined) return [];
      const by = this.#tellersOf(entry).map(({ name }) => name);
      return by.length === 0 ? [] : [describe(entry, by)];
    });
  }

  #everyRevoked(): NodeId[] {
    return [...new Set([...this.#told.values()].flatMap((list) => [...list.keys()]))];
  }

  #tellersOf({ nodeId, decision, decidedAtMs }: TrustEntry): TrustEntry[] {
    return [...this.#told].flatMap(([teller, list]) => {
      const entry = this.#trust.entryOf(teller);
      const atMs = list.get(nodeId);
      if (entry?.decision !== 'trusted' || atMs === undefined) return [];
      // What is denied here is so for reasons of ours, or for this one.
      return decision === 'denied' || atMs >= decidedAtMs ? [entry] : [];
    });
  }

  #isTrusted(nodeId: NodeId): boolean {
    return this.#trust.entryOf(nodeId)?.decision === 'trusted';
  }

  #warn(teller: NodeId, nodeId: NodeId): void {
    const entry = this.#trust.entryOf(nodeId);
    const key = `${teller} ${nodeId}`;
    if (entry?.decision !== 'trusted' || this.#warned.has(key)) return;
    const tellers = this.#tellersOf(entry);
    const by = tellers.find((each) => each.nodeId === teller);
    if (by === undefined || this.#warned.size >= WARNING_COUNT_MAX) return;
    this.#warned.add(key);
    this.#logger.warn(
      { nodeId, name: entry.name, by: by.name, obeyed: this.#obey },
      'a trusted peer says that it trusts a node no more',
    );
    this.onHeard(
      describe(
        entry,
        tellers.map(({ name }) => name),
      ),
    );
  }

  #follow(nodeId: NodeId): void {
    const entry = this.#trust.entryOf(nodeId);
    if (!this.#obey || entry?.decision !== 'trusted' || this.#tellersOf(entry).length === 0) return;
    const publicKey = Buffer.from(entry.publicKey, 'hex');
    this.#trust.deny({ publicKey, nodeId, name: entry.name }, false);
    this.#logger.warn({ nodeId, name: entry.name }, 'it is denied here too: obey-revocations');
  }
}

function describe({ nodeId, name, decision }: TrustEntry, by: readonly string[]): HeardRevocation {
  return { nodeId, name, by, isTrusted: decision === 'trusted' };
}
