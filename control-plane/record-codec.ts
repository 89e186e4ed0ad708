/**
 * What the leader remembers in the store, as keys and JSON values. A codec, pure: what it reads is what it
 * wrote, or `ERR_CONTROL_STORE`. Fields are only ever added, as optional ones.
 */
import * as v from 'valibot';
import { MemcloudError } from '../common/errors.ts';
import { MANAGED_END_REASONS, MEMBER_ROLES } from '../common/managed.ts';
import { hexDigits, wholeNumber } from '../common/schema-parts.ts';
import type { UsageRecord } from './metering.ts';

const ROOT = '/memcloud/v1/';

/** Where each kind of entry lies: the key is the prefix and an id. */
export const PREFIX = {
  /** Control nodes that run, under a lease of the store. */
  control: `${ROOT}control/`,
  member: `${ROOT}member/`,
  provider: `${ROOT}provider/`,
  lease: `${ROOT}lease/`,
  token: `${ROOT}token/`,
  request: `${ROOT}request/`,
  usage: `${ROOT}usage/`,
} as const;

/** The key of the cluster's name. */
export const CLUSTER_KEY = `${ROOT}cluster`;

const whole = wholeNumber();
const limit = v.nullable(whole);

const clusterSchema = v.object({ id: hexDigits(32) });
const controlSchema = v.object({ nodeId: v.string(), name: v.string(), address: v.string() });
const memberSchema = v.object({
  // The id in the key: the node id, or the fingerprint while only that is known.
  id: v.string(),
  // Fingerprint words, node id or public key: what was entered, by which it is recognised.
  pattern: v.string(),
  nodeId: v.string(),
  publicKey: v.string(),
  name: v.string(),
  roles: v.array(v.picklist(MEMBER_ROLES)),
  quotaBytes: limit,
  quotaLeases: limit,
});
const providerSchema = v.object({
  nodeId: v.string(),
  publicKey: v.string(),
  name: v.string(),
  address: v.string(),
  hostId: v.string(),
  zone: v.string(),
  life: v.string(),
  // By an admin.
  draining: v.boolean(),
  offeredBytes: whole,
});
const leaseSchema = v.object({
  leaseId: v.string(),
  client: v.string(),
  provider: v.string(),
  sizeBytes: whole,
  ttlMs: whole,
  purpose: v.string(),
  requestId: v.string(),
  state: v.picklist(['granted', 'active', 'ending']),
  // Why it is ending.
  reason: v.nullable(v.picklist(MANAGED_END_REASONS)),
});
const tokenSchema = v.object({ leaseId: v.string(), epoch: whole });
const requestSchema = v.object({
  client: v.string(),
  sizeBytes: whole,
  ttlMs: whole,
  leaseIds: v.array(v.string()),
});
const usageSchema = v.object({
  client: v.string(),
  byteSeconds: v.number(),
  leasesGranted: whole,
  leasesDenied: whole,
  peakBytes: whole,
});

/** A control node that runs. */
export type ControlRecord = v.InferOutput<typeof controlSchema>;
/** A member. */
export type MemberRecord = v.InferOutput<typeof memberSchema>;
/** A provider. */
export type ProviderRecord = v.InferOutput<typeof providerSchema>;
/** A managed lease. */
export type LeaseRecord = v.InferOutput<typeof leaseSchema>;
/** A token that may still be used. */
export type TokenRecord = v.InferOutput<typeof tokenSchema>;
/** A request that was granted, for as long as one of its leases lives. */
export type RequestRecord = v.InferOutput<typeof requestSchema>;

function reader<T>(schema: v.GenericSchema<unknown, T>, what: string): (value: string) => T {
  return (value) => {
    try {
      return v.parse(schema, JSON.parse(value));
    } catch (cause) {
      throw new MemcloudError('ERR_CONTROL_STORE', `the record of a ${what} is damaged`, { cause });
    }
  };
}

/** Readers of values, each `ERR_CONTROL_STORE` for what it did not write. */
export const readRecord = {
  /** The name of the control plane. */
  cluster: reader(clusterSchema, 'cluster'),
  /** A control node that runs. */
  control: reader<ControlRecord>(controlSchema, 'control node'),
  /** A member. */
  member: reader<MemberRecord>(memberSchema, 'member'),
  /** A provider. */
  provider: reader<ProviderRecord>(providerSchema, 'provider'),
  /** A managed lease. */
  lease: reader<LeaseRecord>(leaseSchema, 'lease'),
  /** A token that may still be used. */
  token: reader<TokenRecord>(tokenSchema, 'token'),
  /** A request that was granted. */
  request: reader<RequestRecord>(requestSchema, 'request'),
  /** The account of a client. */
  usage: reader<UsageRecord>(usageSchema, 'usage'),
};
