/**
 * Executes the control requests of a peer against its own leases and direct exports. The provider's
 * refusals become replies; a request that is no request ends the session (its decoder throws).
 */
import { DIRECT_EXPORT_COUNT_MAX } from '../common/direct-constants.ts';
import { asMemcloudError, MemcloudError } from '../common/errors.ts';
import type { DirectAccess, SlabAccess } from '../common/ports.ts';
import {
  decodeControlRequest,
  encodeControlError,
  encodeControlOk,
  recallRoomFields,
  type ControlRequest,
  type RecallRoom,
} from './control.ts';
import { directExportFields, type DirectRequest } from './direct-control.ts';
import { exchangeFields, type PeerHint } from './exchange-control.ts';

/** What this node lends to one peer. */
export interface HolderAccess {
  /** Its leases; undefined when this node lends nothing. */
  readonly slabs: SlabAccess | undefined;
  /** Its direct exports; undefined when this node serves none. */
  readonly direct: DirectAccess | undefined;
  /** What this node could take back of what it has leased from the peer; undefined when it leases nothing. */
  readonly recallRoom?: () => RecallRoom;
  /** The nodes that this one has sessions with, as the peer may know them; undefined when it may not. */
  readonly knownPeers?: () => readonly PeerHint[];
}

/**
 * Answers one control request.
 *
 * @param access - the peer's
 * @returns the body of the reply, the caller's
 * @throws MemcloudError `ERR_PEER_PROTOCOL` when `body` is no control request
 */
export function serveControl(access: HolderAccess, body: Buffer): Buffer {
  const request = decodeControlRequest(body);
  try {
    return encodeControlOk(execute(access, request));
  } catch (error) {
    return encodeControlError(asMemcloudError(error));
  }
}

function execute(access: HolderAccess, request: ControlRequest): object {
  const { slabs, direct, recallRoom, knownPeers } = access;
  switch (request.method) {
    case 'lease': {
      const { pageCount, ttlMs, under } = request;
      return { ...lent(slabs).lease({ pageCount, ttlMs, ...underOf(under) }) };
    }
    case 'renew':
      return { unknown: lent(slabs).renew(request.leaseIds, request.ttlMs) };
    case 'release':
      lent(slabs).release(request.leaseId);
      return {};
    case 'usage':
      return { usage: lent(slabs).usage() };
    case 'recall-room':
      if (recallRoom === undefined) {
        throw new MemcloudError('ERR_UNSUPPORTED', 'this node leases no memory');
      }
      return recallRoomFields(recallRoom());
    case 'peers':
      if (knownPeers === undefined) {
        throw new MemcloudError('ERR_UNSUPPORTED', 'this node tells nobody of its peers');
      }
      return exchangeFields(knownPeers());
    default:
      return executeDirect(direct, request);
  }
}

function underOf(under: string | undefined): { under?: string } {
  return under === undefined ? {} : { under };
}

function lent(slabs: SlabAccess | undefined): SlabAccess {
  if (slabs === undefined) {
    throw new MemcloudError('ERR_LEASE_CAPACITY', 'this node lends no memory');
  }
  return slabs;
}

function executeDirect(direct: DirectAccess | undefined, request: DirectRequest): object {
  if (direct === undefined) {
    throw new MemcloudError('ERR_UNSUPPORTED', 'this node serves no direct exports');
  }
  switch (request.method) {
    case 'direct-open': {
      const { sizeBytes, ttlMs, under } = request;
      const opened = direct.open({ sizeBytes, ttlMs, ...underOf(under) });
      return { export: directExportFields(opened) };
    }
    case 'direct-ticket': {
      const { exportId, consumerNonce, transport: wanted = 'tls' } = request;
      const ticket = direct.ticket(exportId, consumerNonce, wanted);
      const { ticketId, secret, port, transport } = ticket;
      return { ticketId, secret, port, transport };
    }
    case 'direct-renew':
      return { unknown: direct.renew(request.exportIds) };
    case 'direct-close':
      direct.close(request.exportId);
      return {};
    case 'direct-list':
      return { exports: direct.list().slice(0, DIRECT_EXPORT_COUNT_MAX).map(directExportFields) };
  }
}
