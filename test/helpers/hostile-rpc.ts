/**
 * RPC messages that nobody should send: random bytes, lengths that lie, nests without end, wrong types in
 * every parameter of every method, calls in the wrong order, ids that are used twice or are no ids, calls
 * taken back. All from one seed.
 *
 * What would change the machine that the test runs on, or end the daemon as it should, is only sent with
 * parameters that must be refused.
 */
import { Packr } from 'msgpackr';
import { RPC_PARAMS, type RpcMethod } from '../../common/rpc-schema.ts';
import type { Random } from './fuzz.ts';

const packr = new Packr({ useRecords: false });

/** Methods that do to this machine or this test what is not to be done when their parameters are good. */
const ONLY_REFUSED = new Set<string>([
  'shutdown',
  'daemon.handover',
  'daemon.restart',
  'direct.attach',
  'drain.start',
  'mount.create',
  'mount.remove',
  'nbd.attach',
  'nbd.serve',
  'object.flush',
  'trust.remove',
]);

const METHODS = Object.keys(RPC_PARAMS) as RpcMethod[];
/** A change of its bytes may take the parameters from a call: only of these none is to be feared then. */
const HARMLESS_METHODS = METHODS.filter((method) => !ONLY_REFUSED.has(method));
const NO_METHODS = [
  '',
  'Status',
  'status ',
  'constructor',
  '__proto__',
  'toString',
  'hasOwnProperty',
  'object',
  'object.',
  'x'.repeat(5000),
  7,
  null,
  true,
  [],
  {},
  Buffer.from('status'),
];

/** A frame around a body. */
export function frame(body: Uint8Array, length = body.length): Buffer {
  const header = Buffer.alloc(4);
  header.writeUInt32BE(length);
  return Buffer.concat([header, body]);
}

/** A frame around a message. */
export function message(value: unknown): Buffer {
  return frame(packr.pack(value));
}

/** A value of any type, often one that means something somewhere. */
function anyValue(random: Random, depth = 0): unknown {
  switch (random.below(depth < 3 ? 12 : 9)) {
    case 0:
      return random.pick([0, 1, -1, 2, 64, 4096, 49_152, 2 ** 31, 2 ** 32, 2 ** 53, -(2 ** 53)]);
    case 1:
      return random.pick([0.5, NaN, Infinity, -Infinity, 1e308, -0]);
    case 2:
      return random.pick(['', 'a', 'k/1', 'k/2', '0', '12345678901234567890', 'local', 'friend']);
    case 3:
      return random.pick(['\0', 'a\0b', '../..', '*', '[', '\u001b[31m', 'ä'.repeat(600), '{}']);
    case 4:
      return 'x'.repeat(random.below(3000));
    case 5:
      return random.bytes(random.pick([0, 1, 16, 300, 49_152, 49_153]));
    case 6:
      return random.pick([true, false, null, undefined]);
    case 7:
      return random.pick([2n ** 63n, -(2n ** 63n), new Date(0), new Set([1]), /x/, new Map()]);
    case 8:
      return random.pick(['key', 'block', 'all', 'pinned', 'cache', 'private', 'trusted', 'allow']);
    case 9:
      return Array.from({ length: random.below(20) }, () => anyValue(random, depth + 1));
    case 10:
      return Object.fromEntries(
        Array.from({ length: random.below(6) }, () => [
          random.pick(['key', 'id', 'data', 'name', '__proto__', 'constructor', 'x']),
          anyValue(random, depth + 1),
        ]),
      );
    default:
      return random.pick([[], {}, [[]], ['friend'], ['private', 7]]);
  }
}

/** A value that the parameter of that name would take, where it has a usual one. */
function usualValue(random: Random, name: string): unknown {
  const usual: Record<string, () => unknown> = {
    key: () => random.pick(['k/1', 'k/2', 'k/3']),
    id: () => random.pick(['0', '1', '18446744073709551615']),
    peer: () => random.pick(['local', 'friend', 'nobody']),
    data: () => random.bytes(random.below(2000)),
    meta: () => random.bytes(random.below(256)),
    offset: () => random.pick([0, 1, 100, 2 ** 40]),
    length: () => random.pick([0, 1, 1000, 49_152]),
    upload: () => random.pick(['1', '2', '3', '99']),
    patterns: () => [random.pick(['*', 'k/*', '[a-', '\\'])],
    kind: () => random.pick(['key', 'block', 'all']),
    mode: () => random.pick(['pinned', 'cache']),
    ttlMs: () => random.pick([1, 1000, 2 ** 40]),
    ifVersion: () => random.below(4),
    sizeHint: () => random.pick([0, 1000, 2 ** 45]),
    cursor: () => random.bytes(random.below(40)).toString('base64url'),
    address: () => random.pick(['127.0.0.1:1', '', ':', '[::1]:1', '127.0.0.1:99999', 'x:y']),
    name: () => random.pick(['v1', 'v2', '.', 'a/b']),
    sizeBytes: () => random.pick([0, 4096, 2 ** 20, 2 ** 60]),
    topics: () => [random.pick(['peer', 'object', 'nothing'])],
  };
  return (usual[name] ?? (() => anyValue(random)))();
}

function paramsOf(random: Random, method: RpcMethod): unknown {
  const names = Object.keys(RPC_PARAMS[method].entries);
  const params: Record<string, unknown> = {};
  for (const name of names) {
    if (random.below(4) > 0) params[name] = usualValue(random, name);
  }
  if (random.below(2) === 0) {
    const spoiled = names.length === 0 ? 'x' : random.pick(names);
    params[spoiled] = anyValue(random);
  }
  if (random.below(8) === 0) params[random.pick(['x', '__proto__', 'toString'])] = 1;
  if (random.below(16) === 0) return anyValue(random);
  if (ONLY_REFUSED.has(method)) params['no such parameter'] = anyValue(random) ?? 0;
  return params;
}

function idOf(random: Random): unknown {
  // Few numbers, so that most are used again while the one before is under way.
  if (random.below(8) > 0) return 1 + random.below(20);
  return anyValue(random);
}

/** A call, good or not. */
export function randomCall(random: Random): Buffer {
  return callOf(random, METHODS);
}

function callOf(random: Random, methods: readonly RpcMethod[]): Buffer {
  const isKnown = random.below(12) > 0;
  const chosen = random.pick(methods);
  const method = isKnown ? chosen : random.pick(NO_METHODS);
  const params = isKnown ? paramsOf(random, chosen) : anyValue(random);
  const call: Record<string, unknown> = { id: idOf(random), method, params };
  for (const field of ['id', 'method', 'params']) if (random.below(40) === 0) delete call[field];
  // A good call without its parameters would be a good call of what must be refused.
  if (ONLY_REFUSED.has(String(call['method'])) && typeof call['params'] !== 'object') {
    call['params'] = 'none';
  }
  if (ONLY_REFUSED.has(String(call['method'])) && !Object.hasOwn(call['params'] ?? {}, 'x')) {
    call['params'] = { ...(call['params'] as object), x: 'no such parameter' };
  }
  return message(call);
}

/** Bytes after which the connection should end: no message, or none that the daemon would wait for. */
export function brokenBytes(random: Random): Buffer {
  const good = callOf(random, HARMLESS_METHODS);
  switch (random.below(8)) {
    case 0:
      return random.bytes(1 + random.below(300));
    case 1:
      return frame(random.bytes(random.below(300)));
    case 2:
      return good.subarray(0, random.below(good.length));
    case 3:
      return frame(Buffer.alloc(0), random.pick([0xffffffff, 2 ** 31, 2 ** 20 + 1]));
    case 4:
      return frame(nest(random), undefined);
    case 5:
      return frame(random.mutate(good.subarray(4)));
    case 6:
      return frame(packr.pack(random.pick([7, 'text', null, [], [{}], new Date(0), true])));
    default:
      // A length and nothing after it: a message that never comes.
      return frame(Buffer.alloc(0), 2 ** 20);
  }
}

/** Lists or maps inside one another, as deep as a message is long. */
function nest(random: Random): Buffer {
  const depth = random.pick([100, 10_000, 500_000]);
  if (random.below(2) === 0) return Buffer.alloc(depth, 0x91);
  const head = Buffer.from('82a26964', 'hex');
  return Buffer.concat([head, Buffer.alloc(depth * 2, Buffer.from('81a0', 'hex'))]);
}

/** Takes back a call that is there or not. */
export function randomCancel(random: Random): Buffer {
  return message({ cancel: random.below(4) > 0 ? 1 + random.below(20) : anyValue(random) });
}
