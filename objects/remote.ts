/**
 * The objects of another node (ObjectHolder), over the link to it. Each call is one request, and its
 * reply is that of the session it went over: no third node can answer. What the holder says is held
 * against what was asked (name, offset, length, owner, size, the holder's own block ids); a reply that
 * does not fit it fails the call as a breach of the protocol, and its bytes are given to nobody.
 */
import { MemcloudError } from '../common/errors.ts';
import {
  OBJECT_LIST_COUNT_MAX,
  OBJECT_PIECE_SIZE_MAX_BYTES,
  type ObjectHolder,
  type ObjectInfo,
  type ObjectLink,
  type ObjectListing,
  type ObjectName,
  type ObjectOptions,
  type ObjectPiece,
  type ObjectQuery,
  type ObjectUsage,
} from '../common/objects.ts';
import type { NodeId } from '../common/ports.ts';
import { holderBits, readBlockId } from './block-id.ts';
import type { BodyReader } from './body.ts';
import {
  checkQuery,
  encodeRequest,
  openReply,
  readInfoReply,
  readListingReply,
  readPieceReply,
  readUploadReply,
  readUsageReply,
  replySizeMax,
  type ObjectRequest,
} from './messages.ts';

/** The first bits of its holder's node id, from a block id. @throws MemcloudError `ERR_USAGE` */
export function holderPrefixOf(blockId: string): number {
  const block = readBlockId(blockId);
  if (block !== undefined) return block.holderBits;
  throw new MemcloudError('ERR_USAGE', `block id: expected a number of 64 bits, got ${blockId}`);
}

/** The objects of one other node, as this node may see and change them. */
export class RemoteObjects implements ObjectHolder {
  readonly #link: ObjectLink;
  readonly #self: NodeId;

  /** @param self - this node, which owns what it writes */
  constructor(link: ObjectLink, self: NodeId) {
    this.#link = link;
    this.#self = self;
  }

  /** The holder. */
  get nodeId(): NodeId {
    return this.#link.nodeId;
  }

  /** Writes a whole value. */
  async put(
    key: string | undefined,
    value: Uint8Array,
    options: ObjectOptions,
  ): Promise<ObjectInfo> {
    checkPiece(value.length);
    const info = await this.#info({ method: 'put', key, options, value });
    this.#checkWritten(info, key);
    if (info.sizeBytes !== value.length) this.#lies('size', value.length, info.sizeBytes);
    return info;
  }

  /** Reads a piece; a signal ends the wait. */
  async get(
    name: ObjectName,
    offset: number,
    length: number,
    ifVersion?: number,
    signal?: AbortSignal,
  ): Promise<ObjectPiece | undefined> {
    const lengthMax = Math.min(length, OBJECT_PIECE_SIZE_MAX_BYTES);
    const request = { method: 'get', name, offset, length: lengthMax, ifVersion } as const;
    const reply = await this.#ask(request, signal);
    if (reply === undefined) return undefined;
    const piece = readPieceReply(reply, this.nodeId, offset, lengthMax);
    this.#checkName(piece.info, name);
    return piece;
  }

  /** Looks at an object; a signal ends the wait. */
  async stat(name: ObjectName, signal?: AbortSignal): Promise<ObjectInfo | undefined> {
    const reply = await this.#ask({ method: 'stat', name }, signal);
    if (reply === undefined) return undefined;
    const info = readInfoReply(reply, this.nodeId);
    this.#checkName(info, name);
    return info;
  }

  /** Deletes. */
  async delete(name: ObjectName, ifVersion?: number): Promise<boolean> {
    const reply = await this.#ask({ method: 'delete', name, ifVersion });
    reply?.end();
    return reply !== undefined;
  }

  /** Lists; a signal ends the wait. */
  async list(query: ObjectQuery, signal?: AbortSignal): Promise<ObjectListing> {
    checkQuery(query);
    const reply = await this.#must({ method: 'list', query }, signal);
    return readListingReply(reply, this.nodeId, query.countMax ?? OBJECT_LIST_COUNT_MAX);
  }

  /** Deletes what this node owns there; a signal ends the wait. */
  async flush(signal?: AbortSignal): Promise<ObjectUsage> {
    return readUsageReply(await this.#must({ method: 'flush' }, signal));
  }

  /** What this node owns there; a signal ends the wait. */
  async usage(signal?: AbortSignal): Promise<ObjectUsage> {
    return readUsageReply(await this.#must({ method: 'usage' }, signal));
  }

  /** Begins a value. */
  async begin(key: string | undefined, options: ObjectOptions, sizeHint?: number): Promise<string> {
    return readUploadReply(await this.#must({ method: 'begin', key, options, sizeHint }));
  }

  /** Adds a piece. */
  async append(upload: string, offset: number, piece: Uint8Array): Promise<void> {
    checkPiece(piece.length);
    (await this.#must({ method: 'append', upload, offset, piece })).end();
  }

  /** Makes it an object. */
  async commit(upload: string): Promise<ObjectInfo> {
    const info = await this.#info({ method: 'commit', upload });
    this.#checkWritten(info, info.name.kind === 'key' ? info.name.key : undefined);
    return info;
  }

  /** Gives it up. */
  async abort(upload: string): Promise<void> {
    (await this.#must({ method: 'abort', upload })).end();
  }

  async #ask(request: ObjectRequest, signal?: AbortSignal): Promise<BodyReader | undefined> {
    const body = encodeRequest(request);
    const reply = await this.#link.request(body, signal, replySizeMax(request));
    return openReply(reply, this.#link.nodeName);
  }

  async #must(request: ObjectRequest, signal?: AbortSignal): Promise<BodyReader> {
    const reply = await this.#ask(request, signal);
    if (reply === undefined) this.#lies(request.method, 'an answer', 'that it has none');
    return reply;
  }

  async #info(request: ObjectRequest): Promise<ObjectInfo> {
    return readInfoReply(await this.#must(request), this.nodeId);
  }

  #checkName({ name }: ObjectInfo, asked: ObjectName): void {
    const told = name.kind === 'key' ? name.key : name.id;
    const wanted = asked.kind === 'key' ? asked.key : BigInt(asked.id).toString();
    if (name.kind !== asked.kind || told !== wanted) this.#lies('name', 'what was asked', 'other');
  }

  #checkWritten({ name, owner }: ObjectInfo, key: string | undefined): void {
    if (owner !== this.#self) this.#lies('owner', this.#self, owner);
    if (name.kind === 'key') {
      if (name.key !== key) this.#lies('name', 'the key that was written', 'another');
    } else if (key !== undefined || holderPrefixOf(name.id) !== holderBits(this.nodeId)) {
      this.#lies('block id', 'one of its own', name.id);
    }
  }

  #lies(what: string, expected: string | number, got: string | number): never {
    const { nodeName } = this.#link;
    const text = `node "${nodeName}" answers for objects: ${what}: expected ${expected}, got ${got}`;
    throw new MemcloudError('ERR_PEER_PROTOCOL', text);
  }
}

function checkPiece(length: number): void {
  if (length > OBJECT_PIECE_SIZE_MAX_BYTES) {
    const text = `expected at most ${OBJECT_PIECE_SIZE_MAX_BYTES} bytes at once, got ${length}`;
    throw new MemcloudError('ERR_USAGE', text);
  }
}
