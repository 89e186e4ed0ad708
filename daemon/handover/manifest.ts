/**
 * What a daemon tells its successor besides the volumes' images: the list of what it leaves, as JSON
 * in memory that the two share. Descriptors are named by their place among those that came along.
 */
import * as v from 'valibot';
import { MemcloudError } from '../../common/errors.ts';
import { wholeNumber } from '../../common/schema-parts.ts';

/** Grows with each change that an older or newer memnode would not understand. */
export const MANIFEST_FORMAT = 1;

/** More than any daemon has; a bound on what is believed. */
const LIST_COUNT_MAX = 65_536;

const count = wholeNumber();
const descriptor = v.pipe(count, v.maxValue(LIST_COUNT_MAX));
const text = v.pipe(v.string(), v.maxLength(4096));

function list<const S extends v.GenericSchema>(
  item: S,
): v.SchemaWithPipe<
  readonly [v.ArraySchema<S, undefined>, v.MaxLengthAction<v.InferOutput<S>[], number, undefined>]
> {
  return v.pipe(v.array(item), v.maxLength(LIST_COUNT_MAX));
}

const TLS = v.strictObject({
  policy: v.picklist(['allow', 'require']),
  certificates: v.optional(text),
  verifyPeer: v.boolean(),
  keys: v.optional(text),
});

const SERVICE = v.strictObject({
  address: v.union([
    v.strictObject({ unixPath: text }),
    v.strictObject({ tcpAddress: text }),
    v.strictObject({ fd: count }),
  ]),
  readOnly: v.boolean(),
  tls: v.optional(TLS),
  uri: text,
  listeners: list(descriptor),
  connections: list(
    v.strictObject({
      socket: descriptor,
      exportName: text,
      // As ReplyMode of the NBD server.
      mode: v.picklist([0, 1, 2]),
      allocationContext: v.boolean(),
      // Where in the memory of unread bytes those of the connection lie.
      unreadAt: count,
      unreadLength: count,
    }),
  ),
  waiting: list(descriptor),
});

const VOLUME = v.strictObject({
  image: descriptor,
  secrets: descriptor,
  providers: v.nullable(list(text)),
  services: list(SERVICE),
  attachments: list(
    v.strictObject({
      device: text,
      connections: count,
      via: v.picklist(['netlink', 'nbd-client']),
      timeoutS: count,
      service: SERVICE,
    }),
  ),
});

const MANIFEST = v.strictObject({
  format: v.literal(MANIFEST_FORMAT),
  nodeId: text,
  pid: count,
  // When clients were held, nanoseconds of CLOCK_MONOTONIC, which all processes share.
  heldAtNs: v.pipe(v.string(), v.regex(/^\d{1,20}$/)),
  peerAddress: text,
  lock: descriptor,
  rpcListener: descriptor,
  // The service manager made the RPC socket and removes its file.
  rpcFileKept: v.boolean(),
  peerListeners: list(descriptor),
  peers: list(v.strictObject({ nodeId: text, name: text, up: v.boolean() })),
  dialled: list(text),
  attachCount: count,
  unread: v.nullable(descriptor),
  volumes: list(VOLUME),
});

/** All of it. */
export type Manifest = v.InferOutput<typeof MANIFEST>;
/** A volume of it. */
export type VolumeRecord = v.InferOutput<typeof VOLUME>;
/** An NBD server of it. */
export type ServiceRecord = v.InferOutput<typeof SERVICE>;
/** A kernel device of it. */
export type AttachmentRecord = VolumeRecord['attachments'][number];

/** @throws MemcloudError `ERR_HANDOVER` when it is no manifest, or of another format */
export function decodeManifest(bytes: Buffer): Manifest {
  let json: unknown;
  try {
    json = JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw new MemcloudError('ERR_HANDOVER', 'the manifest of a handover is no JSON', { cause });
  }
  const { format } = (json ?? {}) as { format?: unknown };
  if (format !== MANIFEST_FORMAT) {
    throw new MemcloudError(
      'ERR_HANDOVER',
      `handover: expected format ${MANIFEST_FORMAT}, got ${String(format)}; ` +
        'these versions of memnode are too far apart',
    );
  }
  const result = v.safeParse(MANIFEST, json);
  if (result.success) return result.output;
  const issue = result.issues[0];
  const path = issue.path?.map((part) => String(part.key)).join('.') ?? '';
  throw new MemcloudError('ERR_HANDOVER', `the manifest of a handover: ${path}: ${issue.message}`);
}
