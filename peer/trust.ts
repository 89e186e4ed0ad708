/**
 * Whom this node trusts: a small file of keys, each trusted or denied by a human, or by `autoTrust`
 * at first sight in a lab. Trust belongs to the key; the name is a label that one trusted key holds
 * at a time, compared without case, so that a stranger cannot take the name of a friend: a trusted
 * name with another key is ERR_PEER_KEY_CHANGED, in every mode, and only a human's `remove` lets the
 * new key in.
 *
 * A human may also name a key before it is seen, by its words, its id or itself: then it is trusted at
 * first sight, and nothing else is. And what loses its trust here is remembered for a while, since other
 * nodes are told (revocations.ts).
 */
import path from 'node:path';
import { MemcloudError } from '../common/errors.ts';
import {
  fingerprintOf,
  isKeyPattern,
  nodeIdOf,
  parseKeyPattern,
  type KeyPattern,
} from '../common/fingerprint.ts';
import type { NodeId } from '../common/ports.ts';
import {
  EXPECTED_KEY_COUNT_MAX,
  REVOCATION_COUNT_MAX,
  TRUST_ENTRY_COUNT_MAX,
} from './constants.ts';
import { isNodeName, type PeerIdentity } from './credentials.ts';
import { readPrivateFile, writePrivateFile } from './private-file.ts';
import {
  decodeTrustFile,
  encodeTrustFile,
  type ExpectedKey,
  type Revocation,
  type TrustDecision,
  type TrustEntry,
} from './trust-file.ts';

/** Name of the trust store in the state directory. */
export const TRUST_FILE_NAME = 'trust.json';

const FILE_SIZE_MAX = 2 * 1024 * 1024;

/** How a store behaves. */
export interface TrustOptions {
  /** Trust a key never seen before, unless its name is known. For labs. */
  readonly autoTrust?: boolean;
  /** Keys of the configuration that are trusted when they are first seen, as `parseKeyPattern` reads them. */
  readonly fingerprints?: readonly string[];
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
  readonly #listListeners = new Set<() => void>();
  #expected: readonly ExpectedKey[] = [];
  #revocations: readonly Revocation[] = [];
  #configured: readonly string[] = [];
  /** Of the keys of both, read. */
  #patterns: readonly KeyPattern[] = [];

  private constructor(file: string | undefined, options: TrustOptions) {
    this.#file = file;
    this.#autoTrust = options.autoTrust ?? false;
    this.#wallClockMs = options.wallClockMs ?? Date.now;
    this.setFingerprints(options.fingerprints ?? []);
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
        const { peers, expected, revocations } = decodeTrustFile(bytes);
        for (const entry of peers) store.#entries.set(entry.publicKey, entry);
        store.#setExpected(expected);
        store.#revocations = revocations;
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
   * What the store says of a peer. An unknown key that is expected becomes trusted here, in `autoTrust`
   * mode any; a trusted key that comes with a new, free name is renamed.
   *
   * @throws MemcloudError `ERR_PEER_KEY_CHANGED` when the name belongs to another trusted key
   */
  check(peer: PeerIdentity): TrustDecision | 'unknown' {
    const entry = this.#entries.get(hex(peer.publicKey));
    if (entry?.decision === 'denied') return 'denied';
    this.#refuseTakenName(peer);
    if (entry !== undefined) {
      // The decision is as old as it was: revocations are held against its age.
      if (entry.name !== peer.name) this.#put(peer, 'trusted', entry.decidedAtMs);
      return 'trusted';
    }
    if (!this.#autoTrust && !this.#isExpected(peer)) return 'unknown';
    this.#put(peer, 'trusted');
    return 'trusted';
  }

  /** Trusts a key under its name. @throws MemcloudError `ERR_PEER_KEY_CHANGED` as `check` */
  trust(peer: PeerIdentity): void {
    this.#refuseTakenName(peer);
    this.#put(peer, 'trusted');
  }

  /** The key that is trusted under a peer's name and is not the peer's; undefined when there is none. */
  otherHolder(peer: PeerIdentity): TrustEntry | undefined {
    const wanted = peer.name.toLowerCase();
    const publicKey = hex(peer.publicKey);
    for (const entry of this.#entries.values()) {
      if (entry.decision !== 'trusted' || entry.publicKey === publicKey) continue;
      if (entry.name.toLowerCase() === wanted) return entry;
    }
    return undefined;
  }

  /**
   * Trusts the key that a text names: at once if it was decided about before or is said in full with a
   * name, else when it is first seen.
   *
   * @param text - words, node id or public key
   * @param name - what its operator calls it until it comes
   * @throws MemcloudError `ERR_USAGE`; `ERR_PEER_KEY_CHANGED` when the name is another key's;
   *   `ERR_PEER_UNTRUSTED` beyond a bound
   */
  expect(text: string, name = ''): TrustEntry | ExpectedKey {
    const pattern = text.trim().toLowerCase();
    const { fits } = parseKeyPattern(pattern);
    if (name !== '' && !isNodeName(name)) {
      throw new MemcloudError(
        'ERR_USAGE',
        'the name of a node: expected letters, digits or dashes',
      );
    }
    const known = [...this.#entries.values()].find((each) => fits(each.nodeId, each.publicKey));
    const isWhole = /^[0-9a-f]{64}$/.test(pattern) && name !== '';
    if (known !== undefined || isWhole) {
      const publicKey = Buffer.from(known?.publicKey ?? pattern, 'hex');
      const nodeId = nodeIdOf(publicKey);
      const identity = { publicKey, nodeId, name: known?.name ?? name };
      this.#refuseTakenName(identity);
      return this.#put(identity, 'trusted');
    }
    const others = this.#expected.filter((each) => each.pattern !== pattern);
    if (others.length >= EXPECTED_KEY_COUNT_MAX) {
      const problem = `${EXPECTED_KEY_COUNT_MAX} keys are expected already; remove some`;
      throw new MemcloudError('ERR_PEER_UNTRUSTED', problem);
    }
    const expected = { pattern, name, addedAtMs: this.#wallClockMs() };
    this.#setExpected([...others, expected]);
    this.#save();
    return expected;
  }

  /** Keys that were named and did not come yet, oldest first; without those of the configuration. */
  get expected(): readonly ExpectedKey[] {
    return this.#expected;
  }

  /**
   * Replaces the keys of the configuration. Who was trusted by one stays trusted.
   *
   * @throws MemcloudError `ERR_USAGE` when one cannot be read; all stays as it was
   */
  setFingerprints(fingerprints: readonly string[]): void {
    for (const text of fingerprints) parseKeyPattern(text);
    this.#configured = fingerprints;
    this.#setExpected(this.#expected);
  }

  /** What lost its trust here and has not got it back, for other nodes; newest last. */
  get revocations(): readonly Revocation[] {
    return this.#revocations;
  }

  /**
   * Denies a key: it is refused without a question until it is removed. Ends its sessions.
   *
   * @param isOurs - false when we only follow another node, which tells the others itself
   */
  deny(peer: PeerIdentity, isOurs = true): void {
    const before = this.#entries.get(hex(peer.publicKey));
    this.#dropExpected(hex(peer.publicKey), peer.nodeId);
    if (before?.decision === 'trusted' && isOurs) this.#noteRevocation(peer.nodeId);
    const entry = this.#put(peer, 'denied');
    if (before?.decision !== 'denied') this.#announceRevocation(entry);
  }

  /**
   * Forgets a key; its sessions end, and it is a stranger when it comes again. A key that is only
   * expected is expected no more.
   *
   * @param keyOrName - words, node id or public key, or a name, of whatever case. What is written like
   *   a key is never taken for a name.
   * @returns what was removed
   * @throws MemcloudError `ERR_PEER_UNKNOWN` when there is none, or a name fits several
   */
  remove(keyOrName: string): TrustEntry | ExpectedKey {
    const entry = this.find(keyOrName);
    if ('pattern' in entry) {
      this.#setExpected(this.#expected.filter((each) => each !== entry));
      this.#save();
      return entry;
    }
    this.#dropExpected(entry.publicKey, entry.nodeId);
    this.#entries.delete(entry.publicKey);
    if (entry.decision === 'trusted') this.#noteRevocation(entry.nodeId);
    this.#save();
    this.#announceRevocation(entry);
    return entry;
  }

  /** What {@link TrustStore.remove} would remove. @throws MemcloudError as it does */
  find(keyOrName: string): TrustEntry | ExpectedKey {
    const found = this.#find(keyOrName);
    const [entry] = found;
    if (entry !== undefined && found.length === 1) return entry;
    throw new MemcloudError(
      'ERR_PEER_UNKNOWN',
      found.length === 0
        ? `nothing is decided about "${keyOrName}"; see memcloud trust ls`
        : `"${keyOrName}" fits ${found.length} decisions: say the words, the node id or the key`,
    );
  }

  /** The keys of the configuration that name an entry: removed, it would come back by them. */
  configuredFor(keyOrName: string): string[] {
    const entry = this.find(keyOrName);
    if ('pattern' in entry) return [];
    return this.#configured.filter((text) =>
      parseKeyPattern(text).fits(entry.nodeId, entry.publicKey),
    );
  }

  /** The entry of a node, if it has one. */
  entryOf(nodeId: NodeId): TrustEntry | undefined {
    return [...this.#entries.values()].find((entry) => entry.nodeId === nodeId);
  }

  /** What was decided about a node. */
  decisionOf(nodeId: NodeId): TrustDecision | 'unknown' {
    for (const entry of this.#entries.values()) if (entry.nodeId === nodeId) return entry.decision;
    return 'unknown';
  }

  /** The nodes that are trusted. */
  trustedIds(): ReadonlySet<NodeId> {
    const ids = new Set<NodeId>();
    for (const { nodeId, decision } of this.#entries.values()) {
      if (decision === 'trusted') ids.add(nodeId);
    }
    return ids;
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

  /** Calls `listener` whenever {@link TrustStore.revocations} changed. @returns a function that ends it */
  onRevocationsChanged(listener: () => void): () => void {
    this.#listListeners.add(listener);
    return () => this.#listListeners.delete(listener);
  }

  #setRevocations(revocations: readonly Revocation[]): void {
    this.#revocations = revocations;
    for (const listener of this.#listListeners) listener();
  }

  #announceRevocation(entry: TrustEntry): void {
    for (const listener of this.#revocationListeners) listener(entry);
  }

  #find(keyOrName: string): (TrustEntry | ExpectedKey)[] {
    const entries = [...this.#entries.values()];
    if (isKeyPattern(keyOrName)) {
      const { fits, nodeId } = parseKeyPattern(keyOrName);
      const wanted = keyOrName.trim().toLowerCase();
      const words = nodeId === undefined ? wanted : fingerprintOf(nodeId);
      const known = entries.filter((entry) => fits(entry.nodeId, entry.publicKey));
      if (known.length > 0) return known;
      return this.#expected.filter(({ pattern }) => pattern === wanted || pattern === words);
    }
    const wanted = keyOrName.toLowerCase();
    const named = entries.filter(({ name }) => name.toLowerCase() === wanted);
    // A trusted name is one key's; others may have borne it, denied since.
    const trusted = named.filter(({ decision }) => decision === 'trusted');
    if (named.length > 0) return trusted.length === 1 ? trusted : named;
    return this.#expected.filter(({ name }) => name.toLowerCase() === wanted);
  }

  #refuseTakenName(peer: PeerIdentity): void {
    const holder = this.otherHolder(peer);
    if (holder === undefined) return;
    throw new MemcloudError(
      'ERR_PEER_KEY_CHANGED',
      `"${peer.name}" is known here by another key (node ${holder.nodeId}, now ${peer.nodeId}): ` +
        'someone may be posing as it; if the node was set up anew, forget its old key first: ' +
        `memcloud trust rm ${holder.nodeId}`,
    );
  }

  #isExpected({ publicKey, nodeId }: PeerIdentity): boolean {
    return this.#patterns.some(({ fits }) => fits(nodeId, hex(publicKey)));
  }

  #dropExpected(publicKey: string, nodeId: NodeId): void {
    const left = this.#expected.filter(
      ({ pattern }) => !parseKeyPattern(pattern).fits(nodeId, publicKey),
    );
    if (left.length < this.#expected.length) this.#setExpected(left);
  }

  #setExpected(expected: readonly ExpectedKey[]): void {
    this.#expected = expected;
    const texts = [...this.#configured, ...expected.map(({ pattern }) => pattern)];
    this.#patterns = texts.map(parseKeyPattern);
  }

  #noteRevocation(nodeId: NodeId): void {
    const others = this.#revocations.filter((each) => each.nodeId !== nodeId);
    const revocation = { nodeId, atMs: this.#wallClockMs() };
    this.#setRevocations([...others, revocation].slice(-REVOCATION_COUNT_MAX));
  }

  #put(peer: PeerIdentity, decision: TrustDecision, decidedAtMs = this.#wallClockMs()): TrustEntry {
    const publicKey = hex(peer.publicKey);
    if (!this.#entries.has(publicKey) && this.#entries.size >= TRUST_ENTRY_COUNT_MAX) {
      throw new MemcloudError(
        'ERR_PEER_UNTRUSTED',
        `the trust store is full (${TRUST_ENTRY_COUNT_MAX} keys); remove some`,
      );
    }
    const entry = { publicKey, nodeId: peer.nodeId, name: peer.name, decision, decidedAtMs };
    this.#entries.set(publicKey, entry);
    if (decision === 'trusted') {
      this.#dropExpected(publicKey, peer.nodeId);
      const left = this.#revocations.filter(({ nodeId }) => nodeId !== peer.nodeId);
      if (left.length < this.#revocations.length) this.#setRevocations(left);
    }
    this.#save();
    return entry;
  }

  #save(): void {
    if (this.#file === undefined) return;
    const peers = this.list();
    const { expected, revocations } = this;
    const bytes = encodeTrustFile({ peers, expected, revocations });
    writePrivateFile(this.#file, bytes, 'replace');
  }
}
