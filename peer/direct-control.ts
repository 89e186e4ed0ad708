/**
 * The control bodies of direct exports (docs/peer-protocol.md section 7, "direct-"): what a holder
 * asks of its exports on a provider, and the provider's replies. They are the only bodies that carry
 * a secret, the ticket's, so nothing here puts a value into a message. A codec; pure and total.
 */
import {
  DIRECT_EXPORT_COUNT_MAX,
  DIRECT_TICKET_ID_SIZE_BYTES,
} from '../common/direct-constants.ts';
import type {
  DirectExport,
  DirectRequest as DirectOpening,
  DirectTicket,
  DirectTransport,
} from '../common/ports.ts';
import { PAGE_SIZE_BYTES } from '../common/units.ts';
import {
  asHex,
  asList,
  asMap,
  booleanField,
  integerField,
  NUMBER_MAX,
  refuseBody,
  underField,
} from './control-fields.ts';
import type { PackedMap } from './message-pack.ts';

/** A control request about direct exports. */
export type DirectRequest =
  | ({ readonly method: 'direct-open' } & DirectOpening)
  | {
      readonly method: 'direct-ticket';
      readonly exportId: string;
      /** 64 hex digits: the holder's share of the connection's keys. */
      readonly consumerNonce: string;
      /** Left out it is TLS, which is all that older nodes know. */
      readonly transport?: 'plain';
    }
  | { readonly method: 'direct-renew'; readonly exportIds: readonly string[] }
  | { readonly method: 'direct-close'; readonly exportId: string }
  | { readonly method: 'direct-list' };

const EXPORT_ID_DIGITS = 16;
const TICKET_ID_DIGITS = 2 * DIRECT_TICKET_ID_SIZE_BYTES;
/** Of the 32 bytes that each side gives to the keys. */
const SHARE_DIGITS = 64;

function exportId(value: unknown): string {
  return asHex(value, EXPORT_ID_DIGITS, 'an export id');
}

function exportIds(value: unknown): string[] {
  return asList(value, DIRECT_EXPORT_COUNT_MAX, 'export ids').map(exportId);
}

function transportField(fields: PackedMap): DirectTransport {
  const value = fields['transport'] ?? 'tls';
  if (value !== 'tls' && value !== 'plain') refuseBody('transport: expected tls or plain');
  return value;
}

/**
 * Decodes the request of a `direct-` method. Sizes and times are checked for being numbers; whether
 * they are acceptable is the provider's word.
 *
 * @returns undefined when `method` is none of them
 * @throws MemcloudError `ERR_PEER_PROTOCOL`
 */
export function decodeDirectRequest(fields: PackedMap): DirectRequest | undefined {
  switch (fields['method']) {
    case 'direct-open':
      return {
        method: 'direct-open',
        sizeBytes: integerField(fields, 'sizeBytes', 0, NUMBER_MAX),
        ttlMs: integerField(fields, 'ttlMs', 0, 2 ** 32 - 1),
        ...underField(fields),
      };
    case 'direct-ticket':
      return {
        method: 'direct-ticket',
        exportId: exportId(fields['exportId']),
        consumerNonce: asHex(fields['consumerNonce'], SHARE_DIGITS, 'consumerNonce'),
        ...(transportField(fields) === 'plain' ? { transport: 'plain' } : {}),
      };
    case 'direct-renew':
      return { method: 'direct-renew', exportIds: exportIds(fields['exportIds']) };
    case 'direct-close':
      return { method: 'direct-close', exportId: exportId(fields['exportId']) };
    case 'direct-list':
      return { method: 'direct-list' };
    default:
      return undefined;
  }
}

/** The fields of an export that travel, whatever else the provider's object holds. */
export function directExportFields(described: DirectExport): DirectExport {
  const { sizeBytes, residentBytes, connected, ttlMs } = described;
  return { exportId: described.exportId, sizeBytes, residentBytes, connected, ttlMs };
}

function directExport(value: unknown): DirectExport {
  const fields = asMap(value, 'export');
  const sizeBytes = integerField(fields, 'sizeBytes', PAGE_SIZE_BYTES, NUMBER_MAX);
  if (sizeBytes % PAGE_SIZE_BYTES !== 0) refuseBody('sizeBytes: expected whole pages');
  return {
    exportId: exportId(fields['exportId']),
    sizeBytes,
    residentBytes: integerField(fields, 'residentBytes', 0, NUMBER_MAX),
    connected: booleanField(fields, 'connected'),
    ttlMs: integerField(fields, 'ttlMs', 0, 2 ** 32 - 1),
  };
}

/**
 * The export in a reply to `direct-open`.
 *
 * @param sizeBytes - what was asked for: a device of another size is not what the holder can use
 * @throws MemcloudError `ERR_PEER_PROTOCOL`
 */
export function decodeOpenedExport(fields: PackedMap, sizeBytes: number): DirectExport {
  const opened = directExport(fields['export']);
  if (opened.sizeBytes !== sizeBytes) refuseBody('sizeBytes: expected what was asked for');
  return opened;
}

/** The exports in a reply to `direct-list`. @throws MemcloudError `ERR_PEER_PROTOCOL` */
export function decodeDirectExports(fields: PackedMap): DirectExport[] {
  return asList(fields['exports'], DIRECT_EXPORT_COUNT_MAX, 'exports').map(directExport);
}

/**
 * The ticket in a reply to `direct-ticket`.
 *
 * @param asked - what was asked for. A plain ticket for who asked for TLS is a breach; one for TLS for
 *   who asked for plain is an older node's, which the caller must look at
 * @throws MemcloudError `ERR_PEER_PROTOCOL`
 */
export function decodeDirectTicket(
  fields: PackedMap,
  asked: DirectTransport = 'tls',
): DirectTicket {
  const transport = transportField(fields);
  if (asked === 'tls' && transport !== 'tls') refuseBody('transport: expected what was asked for');
  return {
    transport,
    ticketId: asHex(fields['ticketId'], TICKET_ID_DIGITS, 'ticketId'),
    secret: asHex(fields['secret'], SHARE_DIGITS, 'secret'),
    port: integerField(fields, 'port', 1, 65_535),
  };
}

/**
 * The ids in a reply to `direct-renew`.
 *
 * @param asked - the ids of the request: a provider can disown no others
 * @throws MemcloudError `ERR_PEER_PROTOCOL`
 */
export function decodeUnknownExports(fields: PackedMap, asked: readonly string[]): string[] {
  const unknown = exportIds(fields['unknown']);
  if (!unknown.every((id) => asked.includes(id))) {
    refuseBody('unknown: expected ids that were asked about');
  }
  return unknown;
}
