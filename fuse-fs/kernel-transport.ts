/** A mount whose requests come from /dev/fuse: mounted, agreed on with the kernel, and served. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../common/clock.ts';
import { MemcloudError } from '../common/errors.ts';
import type { EventLoopSpin } from '../common/event-loop-spin.ts';
import type { Logger } from '../common/log.ts';
import { FuseDevice } from './device.ts';
import { mountFuse, raiseReadAhead, unmountFuse } from './mounting.ts';
import type { FuseProfile } from './negotiation.ts';
import type { FileCompletionSink, FileOperations } from './operations.ts';
import type { Transport, TransportEnd, TransportOptions } from './transport.ts';

/** How long a mount may take to agree with the kernel on a protocol, milliseconds. */
const AGREE_WAIT_MS = 5_000;
const LOOK_MS = 5;

/** What this transport needs besides. */
export interface KernelTransportOptions extends TransportOptions {
  readonly profile: FuseProfile;
  readonly spin: EventLoopSpin;
  readonly clock: Clock;
  readonly log: Logger;
}

/** See the top of the file. */
export class KernelTransport implements Transport {
  readonly #options: KernelTransportOptions;
  #device: FuseDevice | undefined;
  #gone = false;

  constructor(options: KernelTransportOptions) {
    this.#options = options;
  }

  readonly sink: FileCompletionSink = {
    onFileDone: (tag, result) => this.#device?.session.onFileDone(tag, result),
  };

  /** @inheritDoc */
  get requestCount(): number {
    return this.#device?.session.statistics.requestCount ?? 0;
  }

  /** @inheritDoc */
  get waitingCount(): number {
    return this.#device?.session.waitingCount ?? 0;
  }

  /** @inheritDoc */
  async mount(files: FileOperations): Promise<void> {
    const { directory, allowOther, profile, spin, clock, log } = this.#options;
    const fd = await mountFuse({ directory, allowOther });
    const onEnd = (end: TransportEnd): void => {
      this.#gone = true;
      this.#options.onEnd(end);
    };
    const device = new FuseDevice({ fd, profile, spin, clock, log, onEnd });
    this.#device = device;
    device.serve(files);
    for (let waitedMs = 0; device.session.agreed === undefined; waitedMs += LOOK_MS) {
      if (this.#gone || waitedMs >= AGREE_WAIT_MS) {
        await unmountFuse(directory, { lazy: true }).catch(() => undefined);
        throw this.#disagreement();
      }
      await sleep(LOOK_MS);
    }
    raiseReadAhead(directory);
  }

  /** @inheritDoc */
  close(): void {
    this.#device?.close();
  }

  /** @inheritDoc */
  free(): void {
    this.#device?.session.close();
  }

  #disagreement(): MemcloudError {
    const text = 'this kernel and memnode have no version of the FUSE protocol in common';
    return new MemcloudError('ERR_UNSUPPORTED', `mount ${this.#options.directory}: ${text}`);
  }
}
