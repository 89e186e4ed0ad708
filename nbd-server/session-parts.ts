/** What a transmission session is given by its connection, and what it tells back. */
import type { MemcloudError } from '../common/errors.ts';
import type { BlockDevice } from '../common/ports.ts';
import type { BufferPool } from './buffer-pool.ts';
import type { NbdStream } from '../common/nbd-stream.ts';
import type { TransmissionTerms } from './transmission.ts';

/** Counts since the start of the server, shared by its sessions. */
export interface SessionCounters {
  /** Requests answered, by NBD command (index 0 to 7). */
  readonly requests: Float64Array;
  /** Requests answered with an error. */
  errors: number;
}

/** Whoever keeps the event loop awake after page traffic; see `common/event-loop-spin.ts`. */
export interface ActivityListener {
  /** Requests came from `source`. */
  onActivity(source: NbdStream): void;
  /** `source` has ended. */
  forget(source: NbdStream): void;
}

/** What a session works on. */
export interface SessionParts {
  /** The connected stream; the session becomes its handler. */
  readonly stream: NbdStream;
  /** The export. */
  readonly device: BlockDevice;
  /** What the negotiation agreed on. */
  readonly terms: TransmissionTerms;
  /** Where buffers come from. */
  readonly pool: BufferPool;
  /** Counted into. */
  readonly counters: SessionCounters;
  /** Told of requests that came, so that the event loop stays awake for the next. */
  readonly spin: ActivityListener | undefined;
  /** All is answered after a DISC or a drain: the stream is to be closed once its output has left. */
  readonly onFinished: () => void;
  /** The stream is to be destroyed: the client broke the protocol, or we have a defect. */
  readonly onBreach: (error: MemcloudError) => void;
  /** The stream is closed and nothing is in flight any more: called once, last. */
  readonly onEnded: () => void;
}
