/**
 * Whom this node trusts: a small file of keys, each trusted or denied by a human, or by `autoTrust`
 * at first sight in a lab. Trust belongs to the key; the name is a label that one trusted key holds
 * at a time, compared without case, so that a stranger cannot take the name of a friend: a trusted
 * name with another key is ERR_PEER_KEY_CHANGED, in every mode, and only a human's `remove` lets the
 * new key in.
 */
import path from 'node:path';
import { MemcloudError } from '../common/errors.ts';
import type { NodeId } from '../common/ports.ts';
import { TRUST_ENTRY_COUNT_MAX } from './constants.ts';
import { isNodeName, type PeerIdentity } from './credentials.ts';
import { nodeIdOf } from './identity.ts';
import { readPrivateFile, writePrivateFile } from './private-file.ts';

/** Name of the trust store in the state directory. */
export const TRUST_FILE_NAME = 'trust.json';

const FORMAT = 'memcloud-trust/1';
const FILE_SIZE_MAX = 2 * 1024 * 1024;

/** What a human decided about a key. */
export type TrustDecision = 'trusted' | 'denied';

/** One key of the store. */
export interface TrustEntry {
  /** 64 hex digits. */
  readonly publicKey: string;
  /** Follows from the key. */
  readonly nodeId: NodeId;
  /** The name that the key came with last. */
  readonly name: string;
  /** The decision. */
  readonly decision: TrustDecision;
  /** When it was made, milliseconds of the wall clock since 1970. */
  readonly decidedAtMs: number;
}

/** How a store behaves. */
export interface TrustOptions {
  /** Trust a key never seen before, unless its name is known. For labs. */
  readonly autoTrust?: boolean;
  /** The wall clock, for {@link TrustEntry.decidedAtMs}. */
  readonly wallClockMs?: () => number;
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** The decisions of one node. */
export class TrustStore {
  readonly #file: string | undefined;
  readonly #autoTrust: boolean;
  readonly #wallClockMs: () => number;
  readonly #entries = new Map<string, TrustEntry>();
  readonly #revocationListeners = new Set<(entry: TrustEntry) => void>();

  private constructor(file: string | undefined, options: TrustOptions) {
    this.#file = file;
    this.#autoTrust = options.autoTrust ?? false;
    this.#wallClockMs = options.wallClockMs ?? Date.now;
  }

  /** A store that no file holds; for tests and throw-away nodes. */
  static inMemory(options: TrustOptions = {}): TrustStore {
    return new TrustStore(undefined, options);
  }

  /**
   * Reads the store of a state directory; none is an empty one.
   *
   * @throws MemcloudError `ERR_IDENTITY` when the file is damaged or readable by others: guessing at
   *   trust is worse than not starting
   */
  static load(stateDirectory: string, options: TrustOptions = {}): TrustStore {
    const file = path.join(stateDirectory, TRUST_FILE_NAME);
    const store = new TrustStore(file, options);
    try {
      const bytes = readPrivateFile(file, FILE_SIZE_MAX);
      if (bytes !== undefined) {
        for (const entry of parseTrustFile(bytes)) store.#entries.set(entry.publicKey, entry);
      }
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new MemcloudError(
        'ERR_IDENTITY',
        `trust store ${file}: ${reason}; restore it, or move it away to trust nobody`,
        { cause },
      );
    }
    return store;
  }

  /**
   * What the store says of a peer. In `autoTrust` mode an unknown key becomes trusted here; a trusted
   * key that comes with a new, free name is renamed.
   *
   * @throws MemcloudError `ERR_PEER_KEY_CHANGED` when the name belongs to another trusted key
   */
  check(peer: PeerIdentity): TrustDecision | 'unknown' {
    const entry = this.#entries.get(hex(peer.publicKey));
    if (entry?.decision === 'denied') return 'denied';
    const holder = this.#trustedByName(peer.name);
    if (holder !== undefined && holder.publicKey !== hex(peer.publicKey)) {
      throw new MemcloudError(
        'ERR_PEER_KEY_CHANGED',
        `"${peer.name}" is known here by another key (node ${holder.nodeId}, now ${peer.nodeId}): ` +
          'someone may be posing as it; if the node was set up anew, remove its old key from the ' +
          'trust store first',
      );
    }
    if (entry !== undefined) {
      if (entry.name !== peer.name) this.#put(peer, 'trusted');
      return 'trusted';
    }
    if (!this.#autoTrust) return 'unknown';
    this.#put(peer, 'trusted');
    return 'trusted';
  }

  /** Trusts a key under its name. @throws MemcloudError `ERR_PEER_KEY_CHANGED` as `check` */
  trust(peer: PeerIdentity): void {
    const holder = this.#trustedByName(peer.name);
    if (holder !== undefined && holder.publicKey !== hex(peer.publicKey)) this.check(peer);
    this.#put(peer, 'trusted');
  }

  /** Denies a key: it is refused without a question until it is removed. Ends its sessions. */
  deny(peer: PeerIdentity): void {
    const before = this.#entries.get(hex(peer.publicKey));
    const entry = this.#put(peer, 'denied');
    if (before?.decision !== 'denied') this.#announceRevocation(entry);
  }

  /**
   * Forgets a key; its sessions end, and it is a stranger when it comes again.
   *
   * @param keyOrName - a public key (64 hex digits), a node id or a name, of whatever case
   * @throws MemcloudError `ERR_PEER_UNKNOWN` when there is none, or a name fits several
   */
  remove(keyOrName: string): TrustEntry {
    const wanted = keyOrName.toLowerCase();
    const all = [...this.#entries.values()];
    let found = all.filter((entry) => entry.publicKey === wanted || entry.nodeId === wanted);
    if (found.length === 0) found = all.filter((entry) => entry.name.toLowerCase() === wanted);
    const entry = found[0];
    if (entry === undefined || found.length > 1) {
      throw new MemcloudError(
        'ERR_PEER_UNKNOWN',
        `trust store: expected a name, node id or key of one entry, ${found.length} fit`,
      );
    }
    this.#entries.delete(entry.publicKey);
    this.#save();
    this.#announceRevocation(entry);
    return entry;
  }

  /** All entries, oldest decision first. */
  list(): TrustEntry[] {
    return [...this.#entries.values()].sort((a, b) => a.decidedAtMs - b.decidedAtMs);
  }

  /** Calls `listener` whenever a key loses its trust. @returns a function that ends it */
  onRevoked(listener: (entry: TrustEntry) => void): () => void {
    this.#revocationListeners.add(listener);
    return () => this.#revocationListeners.delete(listener);
  }

  #announceRevocation(entry: TrustEntry): void {
    for (const listener of this.#revocationListeners) listener(entry);
  }

  #trustedByName(name: string): TrustEntry | undefined {
    const wanted = name.toLowerCase();
    for (const entry of this.#entries.values()) {
      if (entry.decision === 'trusted' && entry.name.toLowerCase() === wanted) return entry;
    }
    return undefined;
  }

  #put(peer: PeerIdentity, decision: TrustDecision): TrustEntry {
    const publicKey = hex(peer.publicKey);
    if (!this.#entries.has(publicKey) && this.#entries.size >= TRUST_ENTRY_COUNT_MAX) {
      throw new MemcloudError(
        'ERR_PEER_UNTRUSTED',
        `the trust store is full (${TRUST_ENTRY_COUNT_MAX} keys); remove some`,
      );
    }
    const decidedAtMs = this.#wallClockMs();
    const entry = { publicKey, nodeId: peer.nodeId, name: peer.name, decision, decidedAtMs };
    this.#entries.set(publicKey, entry);
    this.#save();
    return entry;
  }

  #save(): void {
    if (this.#file === undefined) return;
    const peers = this.list().map(({ publicKey, name, decision, decidedAtMs }) => {
      return { publicKey, name, decision, decidedAtMs };
    });
    const text = `${JSON.stringify({ format: FORMAT, peers }, null, 2)}\n`;
    writePrivateFile(this.#file, Buffer.from(text), 'replace');
  }
}

function parseTrustFile(bytes: Buffer): TrustEntry[] {
  const file = JSON.parse(bytes.toString('utf8')) as { format?: unknown; peers?: unknown } | null;
  if (file?.format !== FORMAT || !Array.isArray(file.peers)) {
    throw new Error(`expected format "${FORMAT}" with a list of peers`);
  }
  if (file.peers.length > TRUST_ENTRY_COUNT_MAX) throw new Error('it has too many peers');
  const names = new Set<string>();
  return file.peers.map((value: unknown, index) => {
    const row = (value ?? {}) as Record<string, unknown>;
    const { publicKey, name, decision, decidedAtMs } = row;
    if (
      typeof publicKey !== 'string' ||
      !/^[0-9a-f]{64}$/.test(publicKey) ||
      typeof name !== 'string' ||
      !isNodeName(name) ||
      (decision !== 'trusted' && decision !== 'denied') ||
      typeof decidedAtMs !== 'number' ||
      !Number.isFinite(decidedAtMs)
    ) {
      throw new Error(`peer ${index} is malformed`);
    }
    if (decision === 'trusted' && names.has(name.toLowerCase())) {
      throw new Error(`peer ${index}: two trusted keys share one name`);
    }
    if (decision === 'trusted') names.add(name.toLowerCase());
    const nodeId = nodeIdOf(Buffer.from(publicKey, 'hex'));
    return { publicKey, nodeId, name, decision, decidedAtMs };
  });
}
