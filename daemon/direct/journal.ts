/**
 * What a memnode must know of its direct devices after a restart: which kernel device lies on which
 * export of which provider. It lies beside the RPC socket, in a directory that does not outlive the
 * machine's run, as the devices do not. There is no secret in it: keys are the kernel's alone, and the
 * right to reconnect comes from the identity of this node.
 */
import fs from 'node:fs';
import * as v from 'valibot';
import { MemcloudError } from '../../common/errors.ts';
import { replaceFile } from '../../common/replace-file.ts';
import { hexDigits, wholeNumber } from '../../common/schema-parts.ts';

const leg = v.object({
  device: v.pipe(v.string(), v.regex(/^\/dev\/nbd\d+$/)),
  providerId: v.string(),
  providerName: v.string(),
  exportId: hexDigits(16),
  cryptName: v.pipe(v.string(), v.regex(/^memcloud-[0-9a-f-]+$/)),
  cryptDevice: v.pipe(v.string(), v.regex(/^\/dev\/dm-\d+$/)),
  // A file of an earlier version says nothing: that one knew TLS only.
  connection: v.optional(v.picklist(['tls', 'wireguard', 'plain']), 'tls'),
  // The managed lease that the export is under; absent for any other.
  lease: v.optional(
    v.object({
      leaseId: hexDigits(32),
      sizeBytes: wholeNumber(undefined, 1),
      ttlMs: wholeNumber(undefined, 1),
      purpose: v.string(),
      provider: v.object({
        nodeId: v.string(),
        publicKey: hexDigits(64),
        name: v.string(),
        address: v.string(),
        hostId: v.string(),
        zone: v.string(),
      }),
    }),
  ),
});

const record = v.object({
  device: v.pipe(v.string(), v.regex(/^\/dev\/(dm-|md)\d+$/)),
  sizeBytes: wholeNumber(),
  mirrored: v.boolean(),
  legs: v.array(leg),
});

const journal = v.object({ version: v.literal(1), devices: v.array(record) });

/** One copy of a direct device. */
export type LegRecord = v.InferOutput<typeof leg>;

/** A managed lease under one copy. */
export type JournalLease = NonNullable<LegRecord['lease']>;

/** A direct device. */
export type DeviceRecord = v.InferOutput<typeof record>;

/**
 * Reads the devices of the last process.
 *
 * @returns none when there is no file
 * @throws MemcloudError `ERR_USAGE` when the file cannot be understood: it is not ours to overwrite then
 */
export function loadJournal(file: string): DeviceRecord[] {
  let text: string;
  try {
    text = fs.readFileSync(file, 'utf8');
  } catch {
    return [];
  }
  try {
    return v.parse(journal, JSON.parse(text)).devices;
  } catch (cause) {
    const why = 'remove it once no swap of memcloud is on (memcloud swap ls, swapon --show)';
    throw new MemcloudError('ERR_USAGE', `${file} is damaged; ${why}`, { cause });
  }
}

/** Replaces the file, whole or not at all; removes it when nothing is left. */
export function saveJournal(file: string, devices: readonly DeviceRecord[]): void {
  if (devices.length === 0) return fs.rmSync(file, { force: true });
  replaceFile(file, `${JSON.stringify({ version: 1, devices }, undefined, 2)}\n`, 0o600);
}
