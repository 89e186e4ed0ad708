/**
 * Checks of single fields of a control body, one function for each kind that the schemas use
 * (control.ts, direct-control.ts): a value of the kind, or ERR_PEER_PROTOCOL that says what was
 * expected and never what came, since a field may be a secret. A codec; pure and total.
 */
import { MemcloudError } from '../common/errors.ts';
import type { PackedMap } from './message-pack.ts';

/** The largest number that a control body can carry. */
export const NUMBER_MAX = Number.MAX_SAFE_INTEGER;

/** Refuses a body. @throws MemcloudError `ERR_PEER_PROTOCOL`, always */
export function refuseBody(message: string): never {
  throw new MemcloudError('ERR_PEER_PROTOCOL', `control body: ${message}`);
}

/** The integer of `min` to `max` under `key`. @throws MemcloudError `ERR_PEER_PROTOCOL` */
export function integerField(fields: PackedMap, key: string, min: number, max: number): number {
  const value = fields[key];
  if (!Number.isInteger(value) || (value as number) < min || (value as number) > max) {
    refuseBody(`${key}: expected an integer from ${min} to ${max}`);
  }
  return value as number;
}

/** The truth value under `key`. @throws MemcloudError `ERR_PEER_PROTOCOL` */
export function booleanField(fields: PackedMap, key: string): boolean {
  const value = fields[key];
  if (typeof value !== 'boolean') refuseBody(`${key}: expected true or false`);
  return value;
}

/** The most characters of a label; see {@link labelField}. */
export const LABEL_LENGTH_MAX = 64;

/**
 * The label under `key`: at most 64 letters, digits, dots, dashes or underscores; none is the empty one.
 *
 * @throws MemcloudError `ERR_PEER_PROTOCOL`
 */
export function labelField(fields: PackedMap, key: string): string {
  const value = fields[key];
  if (value === undefined) return '';
  const fits = typeof value === 'string' && value.length <= LABEL_LENGTH_MAX;
  if (!fits || !/^[A-Za-z0-9._-]*$/.test(value)) {
    refuseBody(`${key}: expected at most ${LABEL_LENGTH_MAX} letters, digits, dots or dashes`);
  }
  return value;
}

/** A value that must be a map. @throws MemcloudError `ERR_PEER_PROTOCOL` */
export function asMap(value: unknown, what: string): PackedMap {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    refuseBody(`${what}: expected a map`);
  }
  return value as PackedMap;
}

/** A value that must be `digitCount` lower-case hex digits. @throws MemcloudError `ERR_PEER_PROTOCOL` */
export function asHex(value: unknown, digitCount: number, what: string): string {
  if (typeof value !== 'string' || value.length !== digitCount || !/^[0-9a-f]+$/.test(value)) {
    refuseBody(`${what}: expected ${digitCount} hex digits`);
  }
  return value;
}

const MANAGED_LEASE_ID_DIGITS = 32;

/** The managed lease under `under`, for requests that may name one. @throws MemcloudError `ERR_PEER_PROTOCOL` */
export function underField(fields: PackedMap): { under?: string } {
  const value = fields['under'];
  if (value === undefined) return {};
  return { under: asHex(value, MANAGED_LEASE_ID_DIGITS, 'under') };
}

/** A value that must be a list of at most `countMax`. @throws MemcloudError `ERR_PEER_PROTOCOL` */
export function asList(value: unknown, countMax: number, what: string): unknown[] {
  if (!Array.isArray(value) || value.length > countMax) {
    refuseBody(`${what}: expected a list of at most ${countMax}`);
  }
  return value;
}
