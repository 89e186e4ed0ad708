/**
 * Answers other nodes about the objects that are here (ObjectService): a request is decoded, executed as
 * the node that asks, by its key, and answered, all before the return. What the holder refuses is a
 * reply; what is no request ends the session (docs/peer-protocol.md section 12).
 */
import { asMemcloudError, MemcloudError } from '../common/errors.ts';
import {
  OBJECT_LIST_COUNT_MAX,
  type ObjectHolder,
  type ObjectQuery,
  type ObjectService,
} from '../common/objects.ts';
import type { NodeId } from '../common/ports.ts';
import {
  decodeRequest,
  encodeDone,
  encodeInfo,
  encodeListing,
  encodeMissing,
  encodePiece,
  encodeRefusal,
  encodeUpload,
  encodeUsage,
  type ObjectRequest,
} from './messages.ts';

/** The objects of this node. */
export interface ServedObjects {
  /** As one node may see and change them; its calls end before they return. */
  openHolder(requester: NodeId): ObjectHolder;
  /** Ends the uploads of a node. */
  dropUploads(requester: NodeId): void;
  /** Deletes what a node owns, and ends its uploads. */
  deleteOwnedBy(owner: NodeId): unknown;
}

/** The service. */
export class ObjectServer implements ObjectService {
  readonly #objects: ServedObjects;
  readonly #onDefect: (error: MemcloudError) => void;
  readonly #holders = new Map<NodeId, ObjectHolder>();

  /** @param onDefect - hears of failures of ours, which the asker is told nothing of */
  constructor(objects: ServedObjects, onDefect: (error: MemcloudError) => void) {
    this.#objects = objects;
    this.#onDefect = onDefect;
  }

  /** Answers one request. */
  serveObject(requester: NodeId, body: Buffer): Buffer {
    const request = decodeRequest(body);
    let holder = this.#holders.get(requester);
    if (holder === undefined) {
      holder = this.#objects.openHolder(requester);
      this.#holders.set(requester, holder);
    }
    try {
      return execute(holder, request);
    } catch (error) {
      const failure = asMemcloudError(error);
      if (failure.fault === 'internal') this.#onDefect(failure);
      return encodeRefusal(failure);
    }
  }

  /** Its uploads are over. */
  onRequesterGone(requester: NodeId): void {
    this.#holders.delete(requester);
    this.#objects.dropUploads(requester);
  }

  /** What it owns here goes. */
  onRequesterRevoked(requester: NodeId): void {
    this.#holders.delete(requester);
    this.#objects.deleteOwnedBy(requester);
  }
}

function execute(holder: ObjectHolder, request: ObjectRequest): Buffer {
  switch (request.method) {
    case 'put':
      return encodeInfo(now(holder.put(request.key, request.value, request.options)));
    case 'get': {
      const { name, offset, length, ifVersion } = request;
      const piece = now(holder.get(name, offset, length, ifVersion));
      return piece === undefined ? encodeMissing() : encodePiece(piece);
    }
    case 'stat': {
      const info = now(holder.stat(request.name));
      return info === undefined ? encodeMissing() : encodeInfo(info);
    }
    case 'delete':
      return now(holder.delete(request.name, request.ifVersion)) ? encodeDone() : encodeMissing();
    case 'list':
      return list(holder, request.query);
    case 'flush':
      return encodeUsage(now(holder.flush()));
    case 'usage':
      return encodeUsage(now(holder.usage()));
    case 'begin':
      return encodeUpload(now(holder.begin(request.key, request.options, request.sizeHint)));
    case 'append':
      now(holder.append(request.upload, request.offset, request.piece));
      return encodeDone();
    case 'commit':
      return encodeInfo(now(holder.commit(request.upload)));
    case 'abort':
      now(holder.abort(request.upload));
      return encodeDone();
  }
}

/** A page as long as asked for, or as a reply has room for. */
function list(holder: ObjectHolder, query: ObjectQuery): Buffer {
  const reply = encodeListing(now(holder.list(query)));
  if (Buffer.isBuffer(reply)) return reply;
  const countMax = Math.min(reply.fitting, query.countMax ?? OBJECT_LIST_COUNT_MAX);
  const again = encodeListing(now(holder.list({ ...query, countMax })));
  if (Buffer.isBuffer(again)) return again;
  throw new MemcloudError('ERR_INTERNAL', `a page of ${countMax} objects does not fit`);
}

/** On the holder itself calls end before they return. */
function now<T>(value: T | Promise<T>): T {
  if (value instanceof Promise) {
    throw new MemcloudError('ERR_INTERNAL', 'the objects of this node answered late');
  }
  return value;
}
