/**
 * What surrounds a connection (connection.ts): what every connection of a node shares, and what one
 * leaves behind that both sides accepted.
 */
import type { ByteStream } from '../common/byte-stream.ts';
import type { Clock } from '../common/clock.ts';
import type { DirectProvider, NodeId, ProviderUsage } from '../common/ports.ts';
import { INPUT_SIZE_BYTES, OUTPUT_CHUNK_SIZE_BYTES } from './constants.ts';
import type { CreditLimits } from './control.ts';
import type { PeerIdentity } from './credentials.ts';
import type { Gatekeeper, KeyCheck } from './gatekeeper.ts';
import type { Identity } from './identity.ts';
import type { RecordOpener } from './record-cipher.ts';
import type { RecordWriter } from './record-writer.ts';

/** Sizes of a connection's buffers. */
export const STREAM_OPTIONS = {
  inputSizeBytes: INPUT_SIZE_BYTES,
  outputChunkSizeBytes: OUTPUT_CHUNK_SIZE_BYTES,
};

/** What every connection of a node shares. */
export interface ConnectionContext {
  /** Who we are. */
  readonly identity: Identity;
  /** What people call us. */
  readonly name: string;
  /** Who may come in. */
  readonly gatekeeper: Gatekeeper;
  /** The name that a guest bears here. */
  readonly guestIdentity: (peer: PeerIdentity) => PeerIdentity;
  /** The clock of rekeying. */
  readonly clock: Clock;
  /** Takes a permit for one more handshake: they cost processor time that sessions need. */
  readonly mayHandshake: () => boolean;
  /** What we tell a trusted peer about its room here. */
  readonly usage: (peer: NodeId) => ProviderUsage;
  /** Whether we grant leases. */
  readonly accepting: () => boolean;
  /** Names the machine that we run on; empty to say nothing. */
  readonly hostId: string;
  /** Our wider failure domain; empty for none. */
  readonly zone: string;
  /** The lane that we dial on; empty for the node itself. */
  readonly lane: string;
  /** The TCP port on which we take peers; 0 for none. */
  readonly port: () => number;
  /** Whether we tell trusted peers of each other. */
  readonly exchangesPeers: boolean;
  /** What data connections are handed to; undefined when this node serves no direct exports. */
  readonly direct: DirectProvider | undefined;
  /** Whether this node answers about objects. */
  readonly objects: boolean;
  /** Whether this node answers managed calls. */
  readonly managed: boolean;
  /** Longest time of one handshake step, milliseconds. */
  readonly stepTimeoutMs?: number | undefined;
}

/** What is known of the node at an address before it is dialled. */
export interface DialExpectation {
  /** The only key that may answer there; another learns nothing of us. */
  readonly pin?: KeyCheck | undefined;
  /** It invited us by this secret, so it is trusted when it takes us; the owner zeroes it. */
  readonly inviteSecret?: Uint8Array | undefined;
  /** It is let in as a guest, or because it is trusted; nobody is asked about it at this side. */
  readonly asGuest?: boolean | undefined;
}

/** A connection that both sides accepted. Everything in it is the taker's. */
export interface Established {
  /** The socket. */
  readonly stream: ByteStream;
  /** Our records. */
  readonly writer: RecordWriter;
  /** The peer's records. */
  readonly opener: RecordOpener;
  /** Who it is; a guest under the name that it bears here. */
  readonly peer: PeerIdentity;
  /** Whether it was let in as a guest (guests.ts). */
  readonly isGuest: boolean;
  /** True when we dialled. */
  readonly dialled: boolean;
  /** `HOST:PORT` of the other side. */
  readonly address: string;
  /** What it grants us. */
  readonly limits: CreditLimits;
  /** Its room. */
  readonly usage: ProviderUsage;
  /** What it can do beyond version 1, by name. */
  readonly features: readonly string[];
  /** Names the machine that it runs on; empty when it does not say. */
  readonly hostId: string;
  /** Its wider failure domain; empty for none. */
  readonly zone: string;
  /** False while it grants no leases. */
  readonly accepting: boolean;
  /** The lane that it dialled on; empty for the node itself. */
  readonly lane: string;
  /** The TCP port on which it takes peers; 0 when it does not say. */
  readonly port: number;
}
