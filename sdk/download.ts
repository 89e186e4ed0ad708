/** A value on its way from its holder, as it was before its writer encoded it: in pieces, or whole. */
import { MemcloudError } from '../common/errors.ts';
import type { ObjectRow } from '../common/rpc-objects.ts';
import type { CallOptions, Caller, MemcloudClient } from './client.ts';
import { decoded, isEncoded, type SealOptions } from './encoded-download.ts';
import {
  asBuffer,
  encodedSource,
  firstParams,
  laterPieces,
  nameOf,
  storedPieces,
  type ObjectRange,
  type ObjectTarget,
} from './pieces.ts';

/** For {@link read}: a miss is undefined. */
export function isMiss(): undefined {
  return undefined;
}

/** For {@link read}: a miss is an error. @throws MemcloudError `ERR_OBJECT_UNKNOWN` */
export function refuseMiss(target: ObjectTarget): never {
  throw new MemcloudError('ERR_OBJECT_UNKNOWN', `there is no ${nameOf(target)}`);
}

/** Whether the row of a whole value may be left out: one that must be sealed, and is not, is told by it. */
function isBrief(seal: SealOptions): true | undefined {
  return seal.mustBeSealed ? undefined : true;
}

/** The pieces of a value that is as it was, or of one that has to be decoded. */
async function* piecesOf(
  client: Caller,
  target: ObjectTarget,
  range: ObjectRange,
  { object, data }: { readonly object: ObjectRow; readonly data: Uint8Array },
  seal: SealOptions,
  calls: CallOptions,
): AsyncGenerator<Buffer> {
  if (isEncoded(object, seal)) {
    const first = (range.offset ?? 0) === 0 ? asBuffer(data) : Buffer.alloc(0);
    yield* decoded(encodedSource(client, target, object, first, calls), range, seal);
    return;
  }
  yield* storedPieces(client, target, range, { object, data }, calls);
}

/**
 * A value, or a range of it, in pieces.
 *
 * @throws MemcloudError the daemon's, `ERR_OBJECT_UNKNOWN`; `ERR_OBJECT_SEAL`, `ERR_DATA_LOST` when it cannot
 *   be decoded
 */
export async function* download(
  client: MemcloudClient,
  target: ObjectTarget,
  range: ObjectRange,
  seal: SealOptions,
  calls: CallOptions,
): AsyncGenerator<Buffer> {
  const first = firstParams(target, range, isBrief(seal));
  const { found, object, data } = await client.call('object.get', first, calls);
  if (!found) refuseMiss(target);
  if (object !== null) yield* piecesOf(client, target, range, { object, data }, seal, calls);
  else if (data.length > 0) yield asBuffer(data);
}

/**
 * A value, or a range of it, in one buffer. It makes no promise but the one that it returns: most values come
 * whole with the first answer.
 *
 * @param onMiss - what to return when there is no such object: {@link isMiss} or {@link refuseMiss}
 * @throws MemcloudError the daemon's; `ERR_OBJECT_CONFLICT` when it was replaced meanwhile; as
 *   {@link download}
 */
export function read<Miss extends undefined>(
  client: MemcloudClient,
  target: ObjectTarget,
  range: ObjectRange,
  seal: SealOptions,
  calls: CallOptions,
  onMiss: (target: ObjectTarget) => Miss,
): Promise<Buffer | Miss> {
  const first = firstParams(target, range, isBrief(seal));
  return client.callThen('object.get', first, calls, ({ found, object, data }) => {
    if (!found) return onMiss(target);
    if (object === null) return asBuffer(data);
    return readOn(client, target, range, { object, data }, seal, calls);
  });
}

/** The value whose first piece came. */
async function readOn(
  client: MemcloudClient,
  target: ObjectTarget,
  range: ObjectRange,
  { object, data }: { readonly object: ObjectRow; readonly data: Uint8Array },
  seal: SealOptions,
  calls: CallOptions,
): Promise<Buffer> {
  const offset = range.offset ?? 0;
  const end = Math.min(object.sizeBytes, offset + (range.length ?? Infinity));
  if (isEncoded(object, seal)) {
    const parts: Buffer[] = [];
    const pieces = piecesOf(client, target, range, { object, data }, seal, calls);
    for await (const piece of pieces) parts.push(piece);
    return parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts);
  }
  const start = offset + data.length;
  if (start >= end) return asBuffer(data);
  const whole = Buffer.allocUnsafeSlow(end - offset);
  whole.set(data);
  let at = data.length;
  for await (const piece of laterPieces(client, target, object, { start, end }, calls)) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
