/**
 * The owner comes first: the shell around pressure-machine.ts and recall-machine.ts. Every
 * {@link WATCH_INTERVAL_MS} it reads the state of the machine's memory while anything is lent, tells
 * holders at once what they are to give back, and ends what did not come back in an emergency.
 * New leases are refused from the moment of pressure on, and while the node is drained.
 *
 * Objects that are only a cache go first, a slice at each look, since nobody has to move them; leases are asked
 * for what is missing beyond that. Only leases whose holders can be told are asked for. A direct export's are not: their pages belong to
 * a kernel on another machine that only `memcloud swap move` there can make leave.
 */
import type { Clock } from '../common/clock.ts';
import type { Logger } from '../common/log.ts';
import type { GiveBackInfo } from '../common/rpc-nodes.ts';
import { everyTick, type Tick } from '../common/ticker.ts';
import { PressureMachine, type PressureLevel, type PressureReading } from './pressure-machine.ts';
import { RecallMachine, type RecallCall, type RecallableLease } from './recall-machine.ts';

/** How often memory is looked at while anything is lent, milliseconds. */
export const WATCH_INTERVAL_MS = 100;
/** While nothing is lent it is looked at once in so many intervals. */
const IDLE_INTERVAL_COUNT = 10;
/** Cache objects are wiped in slices of so much, which takes some 15 ms. */
const EVICT_SLICE_BYTES = 64 * 2 ** 20;
/** Epochs of use count up to here and begin anew: small integers, whatever the uptime. */
const EPOCH_MAX = 2 ** 30;

/** What the shell works on: a provider. */
export interface GiveBackHost {
  /** Whether anything is lent. */
  isLending(): boolean;
  /** Has cache objects go. @returns bytes that came back */
  evict(bytes: number): number;
  /** Those whose holders can be told. */
  recallable(): Iterable<RecallableLease>;
  /** Tells a holder. */
  tell(call: RecallCall): void;
  /** Ends leases and wipes them. */
  end(leaseIds: readonly string[]): void;
  /** Tells every holder whether leases are granted. */
  announce(accepting: boolean): void;
  /** What page calls stamp slabs with from now on. */
  setEpoch(epoch: number): void;
}

/** How a {@link GiveBack} is made. */
export interface GiveBackOptions {
  /** The provider. */
  readonly host: GiveBackHost;
  /** What its owner is to have available. */
  readonly reserveBytes: number;
  /** How long holders have in an emergency. */
  readonly graceMs: number;
  /** The clock of deadlines. */
  readonly clock: Clock;
  /** Reads the state of the machine's memory. */
  readonly read: () => PressureReading;
  /** Where levels and endings are noted. */
  readonly logger: Logger;
}

/** What it tells for status. */
export interface GiveBackStatus extends GiveBackInfo {
  /** How short of memory the machine is. */
  readonly level: PressureLevel;
}

/** Watches one provider. */
export class GiveBack {
  readonly #options: GiveBackOptions;
  readonly #pressure: PressureMachine;
  readonly #recalls = new RecallMachine();
  readonly #timer: Tick;
  #graceMs: number;
  #draining = false;
  #announced = true;
  #epoch = 0;
  #idleCount = 0;
  #givenBackCount = 0;
  #givenBackBytes = 0;
  #endedCount = 0;
  #endedBytes = 0;
  /** When leases were asked for and none has come yet. */
  #waitsSinceMs: number | undefined;
  #firstBackMs: number | null = null;

  constructor(options: GiveBackOptions) {
    this.#options = options;
    this.#graceMs = options.graceMs;
    this.#pressure = new PressureMachine(options.reserveBytes);
    this.#timer = everyTick(WATCH_INTERVAL_MS, () => this.#watch());
  }

  /** True while leases are granted. */
  get accepting(): boolean {
    return !this.#draining && this.#pressure.level === 'calm';
  }

  /** Why no leases are granted; undefined while they are. */
  get refusal(): string | undefined {
    if (this.#draining) return 'the provider is being drained';
    if (this.#pressure.level !== 'calm') return 'the machine of the provider is short of memory';
    return undefined;
  }

  /** True between drain and undrain. */
  get draining(): boolean {
    return this.#draining;
  }

  /** Asks for everything and grants nothing more, or grants again. */
  setDraining(draining: boolean): void {
    if (this.#draining === draining) return;
    this.#draining = draining;
    this.#options.logger.warn({ draining }, draining ? 'drain begins' : 'drain is over');
    this.#act(this.#options.clock.nowMs());
  }

  /** Changes what the owner is to have. */
  setReserve(reserveBytes: number): void {
    this.#pressure.setReserve(reserveBytes);
  }

  /** Changes how long holders have in an emergency. */
  setGrace(graceMs: number): void {
    this.#graceMs = graceMs;
  }

  /** What the owner is to have. */
  get reserveBytes(): number {
    return this.#pressure.reserveBytes;
  }

  /** A holder has a new connection: what was asked of it is asked again. */
  onHolder(leaseIds: Iterable<string>): void {
    this.#recalls.untell(leaseIds);
  }

  /** A lease ended and is wiped. */
  onLeaseEnded(leaseId: string, residentBytes: number, reason: string): void {
    const isAsked = this.#recalls.askedSinceMs(leaseId) !== undefined;
    this.#recalls.forget(leaseId);
    if (reason === 'recalled') {
      this.#endedCount += 1;
      this.#endedBytes += residentBytes;
    } else if (isAsked && reason === 'released') {
      this.#givenBackCount += 1;
      this.#givenBackBytes += residentBytes;
      if (this.#waitsSinceMs === undefined) return;
      this.#firstBackMs = this.#options.clock.nowMs() - this.#waitsSinceMs;
      this.#waitsSinceMs = undefined;
    }
  }

  /** Looks at memory and does what follows. The timer calls it. */
  tick(): void {
    const nowMs = this.#options.clock.nowMs();
    this.#epoch = (this.#epoch % EPOCH_MAX) + 1;
    this.#options.host.setEpoch(this.#epoch);
    const before = this.#pressure.level;
    this.#pressure.observe(this.#options.read(), nowMs);
    if (before !== this.#pressure.level) this.#logLevel();
    this.#act(nowMs, this.#evict());
  }

  /** For status. */
  status(): GiveBackStatus {
    const { level, availableBytes, reserveBytes, shortageBytes, stallShare } = this.#pressure;
    return {
      ...{ level, availableBytes, reserveBytes, shortageBytes, stallShare },
      draining: this.#draining,
      accepting: this.accepting,
      askedCount: this.#recalls.askedCount,
      pressureCount: this.#pressure.enteredCount,
      givenBackCount: this.#givenBackCount,
      givenBackBytes: this.#givenBackBytes,
      endedCount: this.#endedCount,
      endedBytes: this.#endedBytes,
      firstBackMs: this.#firstBackMs,
    };
  }

  /** Stops looking. */
  close(): void {
    this.#timer.stop();
  }

  #watch(): void {
    this.#idleCount = this.#options.host.isLending() ? 0 : this.#idleCount + 1;
    if (this.#idleCount % IDLE_INTERVAL_COUNT === 0) this.tick();
  }

  /** Has cache objects go. @returns how much of the shortage leases need not make good now */
  #evict(): number {
    const { shortageBytes } = this.#pressure;
    const askedBytes = Math.min(shortageBytes, EVICT_SLICE_BYTES);
    if (askedBytes === 0) return 0;
    const givenBytes = this.#options.host.evict(askedBytes);
    return givenBytes < askedBytes ? givenBytes : shortageBytes;
  }

  #act(nowMs: number, coveredBytes = 0): void {
    const { host } = this.#options;
    if (this.#announced !== this.accepting) {
      this.#announced = this.accepting;
      host.announce(this.accepting);
    }
    const { level } = this.#pressure;
    const shortageBytes = Math.max(0, this.#pressure.shortageBytes - coveredBytes);
    const isIdle = level === 'calm' && !this.#draining;
    const need = { draining: this.#draining, level, shortageBytes, graceMs: this.#graceMs };
    const plan = this.#recalls.plan(isIdle ? [] : host.recallable(), need, nowMs);
    if (isIdle) this.#waitsSinceMs = undefined;
    if (plan.calls.length > 0) this.#waitsSinceMs ??= nowMs;
    for (const call of plan.calls) host.tell(call);
    if (plan.ended.length > 0) {
      this.#options.logger.error(
        { leases: plan.ended.length },
        'emergency: leases that were not given back in time are ended and wiped',
      );
      host.end(plan.ended);
    }
  }

  #logLevel(): void {
    const { level, availableBytes, reserveBytes, shortageBytes, stallShare } = this.#pressure;
    const fields = { level, availableBytes, reserveBytes, shortageBytes, stallShare };
    const { logger } = this.#options;
    if (level === 'calm') logger.info(fields, 'memory pressure is over');
    else logger.warn(fields, 'memory pressure: lent RAM is asked back');
  }
}
