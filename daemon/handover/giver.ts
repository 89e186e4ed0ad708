/**
 * The daemon that is to be replaced. It holds its clients, writes down what it has, passes the open
 * files to the successor, and waits for its word. Until that word everything can be undone, and is
 * undone, whatever goes wrong; after it nothing is: this process lets go of everything, says so, and
 * ends. So at no time two processes seal pages under one key.
 *
 * Before that comes a rehearsal: the same exchange with nobody held and nothing given, so that both
 * processes have run their code once when clients wait for them.
 *
 *     successor: daemon.handover (RPC) --> here: connect, hold, freeze, capture
 *     files, with descriptors      <--
 *     ready                        -->     the point of no return; keys are destroyed here
 *     yours                        <--     the successor serves
 */
import { MemcloudError, asMemcloudError } from '../../common/errors.ts';
import type { Logger } from '../../common/log.ts';
import { Luggage } from './belongings.ts';
import { CHANNEL_DESCRIPTOR_COUNT_MAX, DescriptorChannel } from './channel.ts';
import type { HeldVolumes } from './held-volumes.ts';
import type { Manifest } from './manifest.ts';
import { within } from './within.ts';

/** Requests in flight must have ended by then; else all goes on as before. */
const HOLD_TIMEOUT_MS = 1000;
/** How long answers of providers are waited for. What has none then is asked again by the successor. */
const IDLE_TIMEOUT_MS = 100;
const LOOK_INTERVAL_MS = 1;
const SEND_TIMEOUT_MS = 2000;
/** The successor has everything by then, or it is given up. */
const READY_TIMEOUT_MS = 5000;

/** What a handover needs of the daemon. */
export interface GiverParts {
  /** Every volume, for this one handover. */
  readonly volumes: () => HeldVolumes;
  /** Refuses to serve RPC until {@link GiverParts.goOn}; false while a call is under way. */
  readonly holdRpc: () => boolean;
  /** Why it cannot be, in one sentence. */
  readonly refusal: (force: boolean) => string | undefined;
  /** All of the manifest but the volumes. */
  readonly describe: (luggage: Luggage) => Omit<Manifest, 'volumes' | 'unread' | 'heldAtNs'>;
  /** Undoes `holdRpc`. */
  readonly goOn: () => void;
  /** Called at the point of no return, before the successor hears of it. */
  readonly onGiven: (successorPid: number) => void;
  /** Lets go of everything else that the successor has. */
  readonly abandon: () => void;
  /** Ends the process. */
  readonly leave: () => void;
}

/** What a successor asks for. */
export interface HandoverRequest {
  /** Where it listens. */
  readonly path: string;
  /** Also if something is lost by it. */
  readonly force: boolean;
  /** Only to try. */
  readonly rehearsal: boolean;
}

/** See the top of the file. */
export class Giver {
  readonly #parts: GiverParts;
  readonly #logger: Logger;
  #running = false;

  /** @param parts - what it needs */
  constructor(parts: GiverParts, logger: Logger) {
    this.#parts = parts;
    this.#logger = logger;
  }

  /**
   * Begins to hand over to the process that listens on `path`; how it goes, that process hears.
   *
   * @throws MemcloudError `ERR_HANDOVER` when it cannot be; nothing has happened then
   */
  begin(request: HandoverRequest): void {
    const refusal = this.#running
      ? 'a successor is being served already'
      : this.#parts.refusal(request.force);
    if (refusal !== undefined) throw new MemcloudError('ERR_HANDOVER', refusal);
    // A rehearsal changes nothing; what it asks for may come again before its end is noticed.
    this.#running = !request.rehearsal;
    // Later, so that the answer to this call is on its way before calls are held.
    setImmediate(() => void this.#give(request).finally(() => (this.#running = false)));
  }

  async #give({ path, rehearsal }: HandoverRequest): Promise<void> {
    const luggage = new Luggage();
    const volumes = this.#parts.volumes();
    let channel: DescriptorChannel | undefined;
    let given = false;
    try {
      channel = DescriptorChannel.connect(path);
      if (channel.peer.uid !== process.getuid?.()) {
        throw new MemcloudError('ERR_HANDOVER', `the successor is of user ${channel.peer.uid}`);
      }
      const heldAtNs = process.hrtime.bigint();
      if (!rehearsal) await this.#hold(volumes);
      await this.#send(luggage, { volumes, heldAtNs }, channel);
      const { message } = await channel.receive(READY_TIMEOUT_MS);
      if ((message as { type?: unknown } | null)?.type !== 'ready') {
        throw new MemcloudError('ERR_HANDOVER', 'the successor did not say that it is ready');
      }
      if (rehearsal) return;
      given = true;
      volumes.abandon();
      this.#parts.onGiven(channel.peer.pid);
      await channel.send({ type: 'yours' }, SEND_TIMEOUT_MS);
      this.#parts.abandon();
      this.#logger.info({ successor: channel.peer.pid }, 'handed over');
    } catch (error) {
      const { code, message } = asMemcloudError(error);
      if (given)
        this.#logger.error({ code }, `handed over to nobody, volumes are gone: ${message}`);
      else this.#logger.warn({ code }, `not handed over, all goes on: ${message}`);
    } finally {
      channel?.close();
      luggage.discard(given);
      if (given) {
        this.#parts.leave();
      } else if (!rehearsal) {
        volumes.goOn();
        this.#parts.goOn();
      }
    }
  }

  async #hold(volumes: HeldVolumes): Promise<void> {
    volumes.hold();
    const isHeld = await within(
      HOLD_TIMEOUT_MS,
      LOOK_INTERVAL_MS,
      () => this.#parts.holdRpc() && volumes.held,
    );
    if (!isHeld) {
      throw new MemcloudError('ERR_HANDOVER', `requests took longer than ${HOLD_TIMEOUT_MS} ms`);
    }
    volumes.freeze();
    await within(IDLE_TIMEOUT_MS, LOOK_INTERVAL_MS, () => volumes.idle);
  }

  async #send(
    luggage: Luggage,
    { volumes, heldAtNs }: { volumes: HeldVolumes; heldAtNs: bigint },
    channel: DescriptorChannel,
  ): Promise<void> {
    // From here to the end of the manifest in one turn: nothing may come in between.
    const records = volumes.records(luggage);
    const described = this.#parts.describe(luggage);
    const unread = luggage.packUnread();
    const manifest: Manifest = {
      ...described,
      heldAtNs: String(heldAtNs),
      unread,
      volumes: records,
    };
    const text = Buffer.from(JSON.stringify(manifest));
    const { place, file } = luggage.addMemory('memcloud-manifest', text.length);
    file.bytes.set(text);
    if (!luggage.locked) {
      this.#logger.warn({}, 'what is handed over is not in locked memory; see memcloud doctor');
    }
    const { descriptors, sizeBytes } = luggage;
    for (let at = 0; at < descriptors.length; at += CHANNEL_DESCRIPTOR_COUNT_MAX) {
      const part = descriptors.slice(at, at + CHANNEL_DESCRIPTOR_COUNT_MAX);
      const left = descriptors.length - at - part.length;
      await channel.send({ type: 'files', left, manifest: place }, SEND_TIMEOUT_MS, part);
    }
    const heldMs = Number(process.hrtime.bigint() - heldAtNs) / 1e6;
    const fields = { volumes: records.length, bytes: sizeBytes, files: descriptors.length };
    this.#logger.debug({ ...fields, heldMs }, 'written down for a successor');
  }
}
