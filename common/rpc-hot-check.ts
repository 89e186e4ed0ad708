/**
 * The parameters of the methods that are called by the ten thousand, checked by hand: a yes is as good as
 * the schema's, and a no is only a guess, upon which the schema is asked and finds the words. A test holds
 * the two to one opinion.
 */
import { OBJECT_KEY_SIZE_MAX_BYTES, OBJECT_META_SIZE_MAX_BYTES } from './objects.ts';
import { OBJECT_PIECE_SIZE_MAX_BYTES } from './objects.ts';

const TTL_MAX_MS = 2 ** 40;
/** A UTF-16 code unit becomes three bytes at most. */
const SURE_KEY_LENGTH = Math.floor(OBJECT_KEY_SIZE_MAX_BYTES / 3);
const NUL = '\0';
const BLOCK_PATTERN = /^(0|[1-9][0-9]{0,19})$/;

function isWhole(value: unknown, max: number): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= max;
}

function isBinary(value: unknown, sizeMax: number): boolean {
  return value instanceof Uint8Array && value.length <= sizeMax;
}

function isKey(value: unknown): boolean {
  return (
    typeof value === 'string' &&
    value.length > 0 &&
    value.length <= SURE_KEY_LENGTH &&
    !value.includes(NUL)
  );
}

/** The fields that the hot methods share; `readers` is left to the schema. */
function isField(field: string, value: unknown): boolean {
  switch (field) {
    case 'key':
      return isKey(value);
    case 'id':
      return typeof value === 'string' && BLOCK_PATTERN.test(value);
    case 'peer':
    case 'upload':
      return typeof value === 'string';
    case 'remote':
    case 'brief':
      return typeof value === 'boolean';
    case 'data':
      return isBinary(value, OBJECT_PIECE_SIZE_MAX_BYTES);
    case 'meta':
      return isBinary(value, OBJECT_META_SIZE_MAX_BYTES);
    case 'mode':
      return value === 'pinned' || value === 'cache';
    case 'ttlMs':
      return isWhole(value, TTL_MAX_MS);
    case 'length':
      return isWhole(value, OBJECT_PIECE_SIZE_MAX_BYTES);
    case 'ifVersion':
    case 'offset':
      return isWhole(value, Number.MAX_SAFE_INTEGER);
    default:
      return false;
  }
}

const PUT_FIELDS = ['key', 'peer', 'remote', 'mode', 'ttlMs', 'ifVersion', 'meta', 'data'];
const GET_FIELDS = ['key', 'id', 'peer', 'ifVersion', 'offset', 'length', 'brief'];
const APPEND_FIELDS = ['upload', 'offset', 'data'];

function hasOnly(params: Record<string, unknown>, fields: readonly string[]): boolean {
  for (const field in params) {
    if (!fields.includes(field) || !isField(field, params[field])) return false;
  }
  return true;
}

/**
 * Whether parameters are certainly good, by a look that costs nothing.
 *
 * @returns false for every other method, for what is wrong, and for some rare things that are right
 */
export function areSurelyGood(method: string, params: unknown): boolean {
  if (typeof params !== 'object' || params === null) return false;
  const fields = params as Record<string, unknown>;
  switch (method) {
    case 'object.put':
      return fields['data'] !== undefined && hasOnly(fields, PUT_FIELDS);
    case 'object.get':
      return hasOnly(fields, GET_FIELDS);
    case 'object.append':
      return (
        fields['upload'] !== undefined &&
        fields['offset'] !== undefined &&
        fields['data'] !== undefined &&
        hasOnly(fields, APPEND_FIELDS)
      );
    default:
      return false;
  }
}
