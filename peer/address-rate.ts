/**
 * How often an address may do something that costs us: so many times in a window that slides. The
 * addresses that are remembered are bounded; beyond, the one that was quiet for longest is forgotten.
 */
import type { Clock } from '../common/clock.ts';

/** How often. */
export interface AddressRateOptions {
  /** The clock of the window. */
  readonly clock: Clock;
  /** Times in one window. */
  readonly countMax: number;
  /** The window, milliseconds. */
  readonly windowMs: number;
  /** Addresses that are remembered. */
  readonly addressCountMax: number;
}

/** The rates of all addresses. */
export class AddressRate {
  readonly #options: AddressRateOptions;
  readonly #recentByHost = new Map<string, number[]>();

  constructor(options: AddressRateOptions) {
    this.#options = options;
  }

  /** Whether `address` (`HOST:PORT`; the port does not matter) may once more. Counts nothing. */
  allows(address: string): boolean {
    return this.#recent(hostOf(address)).length < this.#options.countMax;
  }

  /** Counts one time of `address`. */
  count(address: string): void {
    const host = hostOf(address);
    const recent = this.#recent(host);
    recent.push(this.#options.clock.nowMs());
    this.#recentByHost.delete(host);
    this.#recentByHost.set(host, recent);
    if (this.#recentByHost.size <= this.#options.addressCountMax) return;
    const oldest = this.#recentByHost.keys().next();
    if (oldest.done !== true) this.#recentByHost.delete(oldest.value);
  }

  #recent(host: string): number[] {
    const since = this.#options.clock.nowMs() - this.#options.windowMs;
    return (this.#recentByHost.get(host) ?? []).filter((atMs) => atMs > since);
  }
}

/** The host of `HOST:PORT`. */
function hostOf(address: string): string {
  return address.slice(0, address.lastIndexOf(':'));
}
