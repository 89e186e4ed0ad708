/**
 * The bodies of MANAGE messages: `{"call", "params"}` there, `{"result"}` or `{"error": {code, message}}`
 * back, as JSON text (RFC 8259, UTF-8). A codec, pure and total: any bytes give what `schema.ts` allows, or
 * `ERR_CONTROL_PROTOCOL`.
 */
import * as v from 'valibot';
import { isErrorCode, MemcloudError } from '../common/errors.ts';
import { MANAGED_BODY_SIZE_MAX_BYTES } from '../common/managed.ts';
import {
  MANAGED_CALLS,
  type ManagedCall,
  type ManagedParams,
  type ManagedResult,
} from './schema.ts';

/** The most characters of a peer's error message that are kept. */
const ERROR_MESSAGE_LENGTH_MAX = 1000;

/** A call that came. */
export type DecodedCall = {
  [C in ManagedCall]: { readonly call: C; readonly params: ManagedParams<C> };
}[ManagedCall];

const envelope = v.strictObject({ call: v.string(), params: v.unknown() });
const replyEnvelope = v.union([
  v.strictObject({ result: v.unknown() }),
  v.strictObject({ error: v.strictObject({ code: v.string(), message: v.string() }) }),
]);

function fail(problem: string): never {
  throw new MemcloudError('ERR_CONTROL_PROTOCOL', `managed message: ${problem}`);
}

function encode(value: object): Uint8Array {
  const body = Buffer.from(JSON.stringify(value));
  if (body.length <= MANAGED_BODY_SIZE_MAX_BYTES) return body;
  return fail(`expected at most ${MANAGED_BODY_SIZE_MAX_BYTES} bytes, got ${body.length}`);
}

function parse(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body)) as unknown;
  } catch {
    return fail('not JSON text');
  }
}

function check<S extends v.GenericSchema>(
  schema: S,
  value: unknown,
  what: string,
): v.InferOutput<S> {
  const result = v.safeParse(schema, value);
  if (result.success) return result.output;
  const [issue] = result.issues;
  const path = issue.path?.map((part) => String(part.key)).join('.') ?? '';
  return fail(`${what}${path === '' ? '' : `.${path}`}: ${issue.message}`);
}

/** Encodes a call. @throws MemcloudError `ERR_CONTROL_PROTOCOL` when it is too long */
export function encodeManagedCall<C extends ManagedCall>(
  call: C,
  params: ManagedParams<C>,
): Uint8Array {
  return encode({ call, params });
}

/** Decodes a call. @throws MemcloudError `ERR_CONTROL_PROTOCOL`; `ERR_UNSUPPORTED` for a call that is unknown here */
export function decodeManagedCall(body: Uint8Array): DecodedCall {
  const { call, params } = check(envelope, parse(body), 'body');
  if (!Object.hasOwn(MANAGED_CALLS, call)) {
    throw new MemcloudError(
      'ERR_UNSUPPORTED',
      `there is no managed call "${call.slice(0, 64)}" here`,
    );
  }
  const known = call as ManagedCall;
  const schema: v.GenericSchema = MANAGED_CALLS[known].params;
  return { call: known, params: check(schema, params, known) } as DecodedCall;
}

/** Encodes an answer. @throws MemcloudError `ERR_CONTROL_PROTOCOL` when it is too long */
export function encodeManagedResult<C extends ManagedCall>(
  _call: C,
  result: ManagedResult<C>,
): Uint8Array {
  return encode({ result });
}

/** Encodes a refusal. */
export function encodeManagedError({ code, message }: MemcloudError): Uint8Array {
  return encode({ error: { code, message: message.slice(0, ERROR_MESSAGE_LENGTH_MAX) } });
}

/**
 * Decodes the answer to a call.
 *
 * @throws MemcloudError the refusal itself; `ERR_CONTROL_PROTOCOL` when it is neither
 */
export function decodeManagedReply<C extends ManagedCall>(
  call: C,
  body: Uint8Array,
): ManagedResult<C> {
  const reply = check(replyEnvelope, parse(body), 'reply');
  if ('error' in reply) {
    const { code, message } = reply.error;
    throw new MemcloudError(
      isErrorCode(code) ? code : 'ERR_CONTROL_PROTOCOL',
      message.slice(0, ERROR_MESSAGE_LENGTH_MAX),
    );
  }
  const schema: v.GenericSchema = MANAGED_CALLS[call].result;
  return check(schema, reply.result, call) as ManagedResult<C>;
}
