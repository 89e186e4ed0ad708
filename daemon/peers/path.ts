/** How pages get to a peer, in words. Pure. */
import type { NodeId } from '../../common/ports.ts';
import type { DirectConnection, DirectDeviceInfo } from '../../common/rpc-schema.ts';

const DIRECT_WORDS: Readonly<Record<DirectConnection, string>> = {
  tls: 'kernel TLS',
  wireguard: 'WireGuard',
  plain: 'bare TCP, unprotected',
};

/** What the way is made of. */
export interface PathParts {
  /** The peer. */
  readonly nodeId: NodeId;
  /** `HOST:PORT` that the session leads to. */
  readonly address: string;
  /** The WireGuard interface that packets leave by; undefined for any other. */
  readonly wireGuard: string | undefined;
  /** Direct devices of this machine, with legs on any peer. */
  readonly devices: readonly DirectDeviceInfo[];
}

/**
 * `session over TCP to 10.0.0.2:7070, ChaCha20-Poly1305`, what it goes through, and direct devices, whose
 * pages do not go by the session.
 */
export function pathTo({ nodeId, address, wireGuard, devices }: PathParts): string {
  const session = `session over TCP to ${address}, ChaCha20-Poly1305`;
  const tunnel = wireGuard === undefined ? [] : [`inside WireGuard (${wireGuard})`];
  const direct = devices.flatMap(({ device, legs }) =>
    legs
      .filter((leg) => leg.nodeId === nodeId && leg.state !== 'lost')
      .map(({ connection }) => `direct swap on ${device} by ${DIRECT_WORDS[connection]}`),
  );
  return [[session, ...tunnel].join(', '), ...direct].join('; ');
}
