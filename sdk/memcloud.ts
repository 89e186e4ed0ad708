/**
 * MemCloud for programs: `import { MemCloud } from 'memcloud'`. Values go to and come from the daemon of
 * this machine, which keeps them here or on a peer. One instance is one connection; any number of calls may
 * be under way on it at once. It outlives a restart of the daemon: calls under way fail, the next one
 * connects anew. Every failure is a {@link MemcloudError} with a `code` (docs/errors.md), every call takes
 * an `AbortSignal`.
 *
 * What programs written for the first MemCloud use (`store`, `load`, `set`, `get`, `free`, `storeStream`,
 * `peers`, `updatePeerQuota`, `connect`, `disconnect`, `close`) takes and returns what it did there.
 */
import { Readable } from 'node:stream';
import { MemcloudError } from '../common/errors.ts';
import { OBJECT_PIECE_SIZE_MAX_BYTES } from '../common/objects.ts';
import type { ObjectFlushRow, ObjectRow } from '../common/rpc-objects.ts';
import type { DiscoveredNode, PeerPing, StatsInfo } from '../common/rpc-nodes.ts';
import type { PeerInfo, RpcParams, StatusInfo, VolumeInfo } from '../common/rpc-schema.ts';
import { MemcloudClient, type CallOptions } from './client.ts';
import type { Compressor } from './compress.ts';
import { download, isMiss, read, refuseMiss } from './download.ts';
import { encoderFor, type Encoder } from './encode.ts';
import { sealKeyFrom, type SealOptions } from './encoded-download.ts';
import { encodeMeta, PLAIN_ENCODING } from './encoding.ts';
import { endpointOf, type MemCloudOptions } from './endpoint.ts';
import { eventStream, type MemCloudEvent } from './event-stream.ts';
import type { ObjectRange, ObjectTarget } from './pieces.ts';
import { upload, type StreamSource } from './upload.ts';

export { MemcloudError } from '../common/errors.ts';
export type { CallOptions } from './client.ts';
export type { MemCloudOptions } from './endpoint.ts';
export type { MemCloudEvent } from './event-stream.ts';
export { sealKeyOf, type SealKey } from './seal.ts';

/** What a value may be given as; text is stored as UTF-8. */
export type Value = string | Uint8Array;

/** An object that was stored. */
export interface Handle {
  /** For `load` and `free`: the block id; of a key, `key:` and the key. */
  readonly id: string;
  /** Everything that the daemon says about it. */
  readonly object: ObjectRow;
}

/** Where to look for an object, or to put one. */
export interface TargetOptions extends CallOptions {
  /**
   * Stored, the value is encrypted first, so that its holder can neither read it nor make another in its
   * place. Loaded, a value that is not sealed is refused; without this, sealed values are opened as well, and
   * others are believed.
   */
  readonly sealed?: boolean | undefined;
  /** A peer, by name or id; `local` is this node. A row of {@link MemCloud.peers} will do as well. */
  readonly target?: string | undefined;
}

/** How to store. */
export interface StoreOptions extends TargetOptions {
  /** Without a target: on any peer with room, instead of here. */
  readonly remote?: boolean | undefined;
  /** `pinned` (default) stays; `cache` may be evicted. */
  readonly mode?: 'pinned' | 'cache' | undefined;
  /** Milliseconds until it is gone. */
  readonly ttlMs?: number | undefined;
  /** Who else may read it: `trusted` (default), `private`, or nodes by name or id. */
  readonly readers?: 'private' | 'trusted' | string[] | undefined;
  /** Only when the object is at this version; 0: only when there is none. */
  readonly ifVersion?: number | undefined;
  /** The writer's own notes, at most 256 bytes, 244 with a value that is compressed or sealed. */
  readonly meta?: Uint8Array | undefined;
  /** Compress the value first; whoever loads it does not have to say so. `zstd` needs Node 22.15. */
  readonly compress?: Compressor | undefined;
}

/** How to store a stream. */
export interface StreamOptions extends StoreOptions {
  /** Under this key, instead of as a block. */
  readonly key?: string | undefined;
  /** Bytes that are expected, checked against the room at once. */
  readonly sizeHint?: number | undefined;
  /** Taken for the sake of old programs; pieces have the size that is best. */
  readonly chunkSize?: number | undefined;
}

/** Which keys to list. */
export interface KeysOptions extends TargetOptions {
  /** Here and on every peer that is up (default), or here alone. */
  readonly pool?: boolean | undefined;
}

const KEY_PREFIX = 'key:';
/** All of a value. */
const WHOLE: ObjectRange = {};
const NO_OPTIONS: TargetOptions = {};
/** Calls that getMany and setMany have under way at once. */
const MANY_WINDOW_COUNT = 32;

function handleOf(object: ObjectRow): Handle {
  return { id: object.id ?? `${KEY_PREFIX}${object.key ?? ''}`, object };
}

/** The name or id in a row of `peers()`: `ID (NAME) @ ADDRESS`. */
function peerOf(target: string | undefined): string | undefined {
  return target?.split(' ')[0];
}

function targetOf(id: string | Handle, options: TargetOptions): ObjectTarget {
  const text = typeof id === 'string' ? id : id.id;
  return text.startsWith(KEY_PREFIX)
    ? keyTarget(text.slice(KEY_PREFIX.length), options)
    : { key: undefined, id: text, peer: peerOf(options.target) };
}

function keyTarget(key: string, options: TargetOptions): ObjectTarget {
  return { key, id: undefined, peer: peerOf(options.target) };
}

function storeParams(
  options: StoreOptions,
  key: string | undefined,
  encoder: Encoder | undefined,
): Omit<RpcParams<'object.put'>, 'data'> {
  const { target, remote, mode, ttlMs, readers, ifVersion } = options;
  const own = options.meta === undefined ? undefined : encodeMeta(PLAIN_ENCODING, options.meta);
  const meta = encoder?.meta ?? own;
  return { key, peer: peerOf(target), remote, mode, ttlMs, readers, ifVersion, meta };
}

/** Text of a stream is UTF-8. */
async function* bytesOf(stream: StreamSource): AsyncGenerator<Uint8Array> {
  for await (const chunk of stream as AsyncIterable<Value>) yield asBytes(chunk);
}

function asOptions<T extends TargetOptions>(given: string | T | undefined): T {
  return (typeof given === 'string' ? { target: given } : (given ?? NO_OPTIONS)) as T;
}

function asBytes(data: Value): Uint8Array {
  if (typeof data === 'string') return Buffer.from(data);
  if (data instanceof Uint8Array) return data;
  throw new MemcloudError('ERR_USAGE', `value: expected text or bytes, got ${typeof data}`);
}

/** Does something for each, so many at once, in order. */
async function forEachOf<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results = new Array<R>(items.length);
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < items.length) {
      const index = next;
      next += 1;
      results[index] = await work(items[index] as T);
    }
  };
  await Promise.all(Array.from({ length: MANY_WINDOW_COUNT }, worker));
  return results;
}

/** See the top of the file. */
export class MemCloud {
  readonly #given: string | number | MemCloudOptions | undefined;
  readonly #timeoutMs: number | undefined;
  readonly #sealKey: MemCloudOptions['sealKey'];
  #client: MemcloudClient | undefined;
  #connecting: Promise<MemcloudClient> | undefined;
  #closed = false;

  /** @param where - nothing, a socket path, a loopback port, or options */
  constructor(where?: string | number | MemCloudOptions) {
    this.#given = where;
    this.#timeoutMs = typeof where === 'object' ? where.timeoutMs : undefined;
    this.#sealKey = typeof where === 'object' ? where.sealKey : undefined;
  }

  // --- The connection ----------------------------------------------------------------------------

  /**
   * Connects; other calls do so themselves when nobody has.
   *
   * @throws MemcloudError `ERR_DAEMON_UNREACHABLE` when nobody answers, `ERR_RPC_DENIED` when the daemon
   *   does not take this user or token, `ERR_USAGE`
   */
  async connect(options: CallOptions = {}): Promise<void> {
    this.#closed = false;
    const client = await this.#ready();
    await client.hello(this.#calls(options));
  }

  /** Ends the connection; calls under way fail. */
  disconnect(): void {
    this.#closed = true;
    this.#client?.close();
    this.#client = undefined;
  }

  /** The same as {@link MemCloud.disconnect}. */
  close(): void {
    this.disconnect();
  }

  /** Round trips: to the daemon, milliseconds; or to a peer and back, in detail. */
  async ping(options?: CallOptions): Promise<number>;
  async ping(peer: string, options?: CallOptions): Promise<PeerPing>;
  async ping(peer?: string | CallOptions, options?: CallOptions): Promise<number | PeerPing> {
    const client = await this.#ready();
    if (typeof peer === 'string') {
      return client.call('peer.ping', { peer: peerOf(peer) ?? '' }, this.#calls(options));
    }
    const startMs = performance.now();
    await client.hello(this.#calls(peer));
    return performance.now() - startMs;
  }

  // --- Blocks ------------------------------------------------------------------------------------

  /**
   * Stores a value of any size as a block. When it resolves, the holder has it.
   *
   * @param target - a peer, or options; without, it is kept here
   */
  async store(data: Value, target?: string | StoreOptions): Promise<Handle> {
    return handleOf(await this.#put(asBytes(data), asOptions(target), undefined));
  }

  /** Loads a block. @throws MemcloudError `ERR_OBJECT_UNKNOWN` when there is none */
  load(id: string | Handle, options: TargetOptions = NO_OPTIONS): Promise<Buffer> {
    return this.#read(() => targetOf(id, options), WHOLE, options, refuseMiss);
  }

  /** Deletes a block. @returns whether there was one */
  async free(id: string | Handle, options: TargetOptions = {}): Promise<boolean> {
    const client = await this.#ready();
    const call = client.call('object.delete', targetOf(id, options), this.#calls(options));
    return (await call).deleted;
  }

  // --- Keys --------------------------------------------------------------------------------------

  /** Stores a value of any size under a key, in place of what was there. */
  async set(key: string, data: Value, target?: string | StoreOptions): Promise<Handle> {
    return handleOf(await this.#put(asBytes(data), asOptions(target), key));
  }

  /** The value of a key. @throws MemcloudError `ERR_OBJECT_UNKNOWN` when there is none */
  get(key: string, target?: string | TargetOptions): Promise<Buffer> {
    const options = asOptions(target);
    return this.#read(() => keyTarget(key, options), WHOLE, options, refuseMiss);
  }

  /** The value of a key; undefined when there is none. */
  find(key: string, target?: string | TargetOptions): Promise<Buffer | undefined> {
    const options = asOptions(target);
    return this.#read(() => keyTarget(key, options), WHOLE, options, isMiss);
  }

  /** Deletes a key. @returns whether there was one */
  async delete(
    key: string,
    options: TargetOptions & { readonly ifVersion?: number } = {},
  ): Promise<boolean> {
    const client = await this.#ready();
    const params = { key, peer: peerOf(options.target), ifVersion: options.ifVersion };
    return (await client.call('object.delete', params, this.#calls(options))).deleted;
  }

  /** The values of several keys, in their order; undefined where there is none. */
  async getMany(
    keys: readonly string[],
    options: TargetOptions = {},
  ): Promise<(Buffer | undefined)[]> {
    return forEachOf(keys, (key) => this.find(key, options));
  }

  /** Stores several values. Each is stored or not for itself; the first failure is thrown. */
  async setMany(
    values: Readonly<Record<string, Value>> | Iterable<readonly [string, Value]>,
    options: StoreOptions = {},
  ): Promise<Handle[]> {
    const pairs = Symbol.iterator in values ? [...values] : Object.entries(values);
    return forEachOf(pairs, ([key, data]) => this.set(key, data, options));
  }

  /** Part of a value; shorter where the value ends. @throws MemcloudError `ERR_OBJECT_UNKNOWN` */
  getRange(
    keyOrHandle: string | Handle,
    offset: number,
    length: number,
    options: TargetOptions = NO_OPTIONS,
  ): Promise<Buffer> {
    const target = (): ObjectTarget =>
      typeof keyOrHandle === 'string'
        ? keyTarget(keyOrHandle, options)
        : targetOf(keyOrHandle, options);
    return this.#read(target, { offset, length }, options, refuseMiss);
  }

  /**
   * Stores under a key only if it is at this version (0: if there is no such key).
   *
   * @throws MemcloudError `ERR_OBJECT_CONFLICT` when it is not
   */
  async compareAndSet(
    key: string,
    data: Value,
    ifVersion: number,
    options: StoreOptions = {},
  ): Promise<Handle> {
    return this.set(key, data, { ...options, ifVersion });
  }

  /** An object without its value; undefined when there is none. */
  async stat(
    keyOrHandle: string | Handle,
    options: TargetOptions = {},
  ): Promise<ObjectRow | undefined> {
    const client = await this.#ready();
    const target =
      typeof keyOrHandle === 'string'
        ? keyTarget(keyOrHandle, options)
        : targetOf(keyOrHandle, options);
    return (await client.call('object.stat', target, this.#calls(options))) ?? undefined;
  }

  /** The keys that fit one of the glob patterns, sorted, each once. Default: all, here and on every peer. */
  async keys(patterns?: string | readonly string[], options: KeysOptions = {}): Promise<string[]> {
    const keys = new Set<string>();
    const list = typeof patterns === 'string' ? [patterns] : patterns;
    for await (const { key } of this.objects({ ...options, patterns: list })) {
      if (key !== null) keys.add(key);
    }
    return [...keys].sort();
  }

  /** Objects, page by page as the loop goes on. */
  async *objects(
    options: KeysOptions & {
      readonly patterns?: readonly string[] | undefined;
      readonly kind?: 'key' | 'block' | 'all' | undefined;
    } = {},
  ): AsyncGenerator<ObjectRow> {
    const client = await this.#ready();
    const { target, pool = target === undefined, patterns, kind } = options;
    const query = {
      ...{ kind, patterns: patterns === undefined ? undefined : [...patterns] },
      ...(pool ? { pool } : { peer: peerOf(target) }),
    };
    let cursor: string | undefined;
    do {
      const page = await client.call('object.list', { ...query, cursor }, this.#calls(options));
      yield* page.objects;
      cursor = page.cursor ?? undefined;
    } while (cursor !== undefined);
  }

  // --- Streams -----------------------------------------------------------------------------------

  /**
   * Stores what a stream yields, in flat memory however long it is. When the stream fails, or the signal
   * aborts, the room is given back.
   */
  async storeStream(stream: StreamSource, options: StreamOptions = {}): Promise<Handle> {
    const client = await this.#ready();
    const encoder = this.#encoderFor(options, options.key, undefined);
    // The hint is checked against the room: of a compressed value nobody knows it.
    const sizeHint = options.compress === undefined ? options.sizeHint : undefined;
    const begin = { ...storeParams(options, options.key, encoder), sizeHint };
    const encoded = encoder?.encodeStream(bytesOf(stream)) ?? stream;
    return handleOf(await upload(client, encoded, begin, this.#calls(options), stream));
  }

  /** A value as a stream, in flat memory however long it is. */
  loadStream(id: string | Handle, options: TargetOptions & ObjectRange = {}): Readable {
    return this.#stream(targetOf(id, options), options);
  }

  /** The value of a key as a stream. */
  getStream(key: string, options: TargetOptions & ObjectRange = {}): Readable {
    return this.#stream(keyTarget(key, options), options);
  }

  // --- Nodes -------------------------------------------------------------------------------------

  /** Peers that are connected, each as `ID (NAME) @ ADDRESS`. */
  async peers(options: CallOptions = {}): Promise<string[]> {
    const rows = await this.peerInfos(options);
    return rows
      .filter(({ state }) => state === 'up')
      .map(({ nodeId, name, address }) => `${nodeId} (${name}) @ ${address}`);
  }

  /** Every peer that is known, with what it lends and uses. */
  async peerInfos(options: CallOptions = {}): Promise<PeerInfo[]> {
    return (await this.#ready()).call('peer.list', {}, this.#calls(options));
  }

  /** Dials a node. @returns it, `pending` when a human has to allow it first */
  async connectPeer(
    address: string,
    options: CallOptions & { readonly quota?: number; readonly fingerprint?: string } = {},
  ): Promise<PeerInfo> {
    const params = {
      address,
      ...(options.quota === undefined ? {} : { allowedBytes: options.quota }),
      ...(options.fingerprint === undefined ? {} : { fingerprint: options.fingerprint }),
    };
    return (await this.#ready()).call('peer.connect', params, this.#calls(options));
  }

  /** Ends the connection to a peer. */
  async disconnectPeer(peer: string, options: CallOptions = {}): Promise<void> {
    const params = { peer: peerOf(peer) ?? '' };
    await (await this.#ready()).call('peer.disconnect', params, this.#calls(options));
  }

  /** Changes what a peer may use here, bytes; null: as much as any. */
  async updatePeerQuota(
    peer: string,
    quota: number | null,
    options: CallOptions = {},
  ): Promise<void> {
    const params = { peer: peerOf(peer) ?? '', allowedBytes: quota };
    await (await this.#ready()).call('peer.update', params, this.#calls(options));
  }

  /** Nodes that are announced around here. */
  async discovered(options: CallOptions = {}): Promise<DiscoveredNode[]> {
    return (await this.#ready()).call('discovery.list', {}, this.#calls(options));
  }

  // --- The daemon --------------------------------------------------------------------------------

  /** Counters and gauges. */
  async stats(options: CallOptions = {}): Promise<StatsInfo> {
    return (await this.#ready()).call('stats', {}, this.#calls(options));
  }

  /** Everything about the daemon, as `memcloud status` shows it. */
  async status(options: CallOptions = {}): Promise<StatusInfo> {
    return (await this.#ready()).call('status', {}, this.#calls(options));
  }

  /** The volumes. */
  async volumes(options: CallOptions = {}): Promise<VolumeInfo[]> {
    return (await this.#ready()).call('volume.list', {}, this.#calls(options));
  }

  /** Deletes every object that this node owns: here, on one peer, or everywhere. */
  async flush(
    options: TargetOptions & { readonly all?: boolean } = {},
  ): Promise<readonly ObjectFlushRow[]> {
    const params = { peer: peerOf(options.target), all: options.all };
    return (await this.#ready()).call('object.flush', params, this.#calls(options));
  }

  /**
   * What changes from now on, until the loop is left or the signal aborts.
   *
   * @param topics - some of peer, consent, trust, volume, mount, object, config; default: all
   * @throws MemcloudError `ERR_DAEMON_UNREACHABLE` when the connection ends
   */
  async *events(
    topics?: readonly string[],
    options: CallOptions = {},
  ): AsyncGenerator<MemCloudEvent> {
    yield* eventStream(await this.#ready(), topics, this.#calls(options));
  }

  // --- Inside ------------------------------------------------------------------------------------

  async #ready(): Promise<MemcloudClient> {
    if (this.#client !== undefined) return this.#client;
    if (this.#closed) {
      throw new MemcloudError('ERR_DAEMON_UNREACHABLE', 'this MemCloud was closed');
    }
    this.#connecting ??= this.#open().finally(() => (this.#connecting = undefined));
    return this.#connecting;
  }

  async #open(): Promise<MemcloudClient> {
    const client = await MemcloudClient.connect(endpointOf(this.#given));
    if (this.#closed) {
      client.close();
      throw new MemcloudError('ERR_DAEMON_UNREACHABLE', 'this MemCloud was closed');
    }
    this.#client = client;
    return client;
  }

  #seals(options: TargetOptions): SealOptions {
    return { sealKey: this.#sealKey, mustBeSealed: options.sealed === true };
  }

  /** What encodes a value; undefined when it stays as it is. */
  #encoderFor(
    options: StoreOptions,
    key: string | undefined,
    plainSizeBytes: number | undefined,
  ): Encoder | undefined {
    const { sealed, compress, meta } = options;
    if (sealed !== true && compress === undefined) return undefined;
    const sealKey = sealed === true ? sealKeyFrom(this.#sealKey, true) : undefined;
    return encoderFor({ name: key ?? '', compress, sealKey, plainSizeBytes, meta });
  }

  #calls(options: CallOptions | undefined): CallOptions {
    return { signal: options?.signal, timeoutMs: options?.timeoutMs ?? this.#timeoutMs };
  }

  /** No promise of its own, and sent before it returns: a caller may fill `data` anew. */
  #put(data: Uint8Array, options: StoreOptions, key: string | undefined): Promise<ObjectRow> {
    const client = this.#client;
    if (client === undefined) return this.#ready().then(() => this.#put(data, options, key));
    const calls = this.#calls(options);
    const encoder = this.#encoderFor(options, key, data.length);
    const params = storeParams(options, key, encoder);
    const value = encoder?.encodeValue(data) ?? data;
    if (value.length > OBJECT_PIECE_SIZE_MAX_BYTES) {
      return upload(client, [value], { ...params, sizeHint: value.length }, calls);
    }
    // Spread, they would cost more than the rest of this call: V8 makes a new shape each time.
    const { peer, remote, mode, ttlMs, readers, ifVersion, meta } = params;
    const all = { key, peer, remote, mode, ttlMs, readers, ifVersion, meta, data: value };
    return client.call('object.put', all, calls);
  }

  /** No promise of its own either. @param where - what it throws is rejected with */
  #read<Miss extends undefined>(
    where: () => ObjectTarget,
    range: ObjectRange,
    options: TargetOptions,
    onMiss: (target: ObjectTarget) => Miss,
  ): Promise<Buffer | Miss> {
    const client = this.#client;
    if (client === undefined) {
      return this.#ready().then(() => this.#read(where, range, options, onMiss));
    }
    try {
      const seals = this.#seals(options);
      return read(client, where(), range, seals, this.#calls(options), onMiss);
    } catch (thrown) {
      const error = thrown as Error;
      return Promise.reject(error);
    }
  }

  #stream(target: ObjectTarget, options: TargetOptions & ObjectRange): Readable {
    const { offset, length } = options;
    const calls = this.#calls(options);
    const seals = this.#seals(options);
    const ready = (): Promise<MemcloudClient> => this.#ready();
    const pieces = async function* (): AsyncGenerator<Buffer> {
      yield* download(await ready(), target, { offset, length }, seals, calls);
    };
    // What is asked for ahead is asked for there; here a piece would only lie and grow old.
    return Readable.from(pieces(), { objectMode: false, highWaterMark: 0 });
  }
}
