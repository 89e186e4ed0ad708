/**
 * The machines of a simulated rack: each lends and borrows. What placement is told of one is what the
 * product is told: which machine it is, its zone, its room by its last word. Beside that stands the truth,
 * which only the donor itself knows. Pure; randomness is an argument.
 */
import { leaseChargeBytes } from '../../provider/quota.ts';
import { SLAB_PAGE_COUNT } from '../../common/units.ts';
import type { Random } from '../statistics.ts';

/** What a donor's quota is charged for one slab. */
export const SLAB_CHARGE_BYTES = leaseChargeBytes(SLAB_PAGE_COUNT);

/** Room of a machine, GiB: each as likely. */
const OFFERS_GIB = [2, 4, 8, 16, 32];
/** Every so manieth machine runs two nodes: two copies may not be on it. */
const TWIN_INTERVAL = 10;
/** A rack: one switch in between. */
const ROUND_TRIP_MS = 0.2;

/** One node; fits what both placements ask (`tier/placement.ts`, `control-plane/placement.ts`). */
export class Donor {
  readonly index: number;
  readonly nodeId: string;
  /** Names its machine, as the tier calls it. */
  readonly host: string;
  /** The same, as the control plane calls it. */
  readonly hostId: string;
  /** The machine, counted. */
  readonly hostIndex: number;
  readonly zone: string;
  readonly zoneIndex: number;
  readonly offeredBytes: number;
  readonly roundTripMs = ROUND_TRIP_MS;
  /** Nobody is new. */
  readonly knownMs = Infinity;
  readonly load = 0;
  /** It answers. */
  up = true;
  /** By its last word. */
  freeBytes: number;
  /** In truth. */
  usedBytes = 0;

  constructor(index: number, hostIndex: number, zoneIndex: number, offeredBytes: number) {
    this.index = index;
    this.nodeId = index.toString(16).padStart(32, '0');
    this.hostIndex = hostIndex;
    this.host = this.hostId = `host-${hostIndex}`;
    this.zone = `zone-${zoneIndex}`;
    this.zoneIndex = zoneIndex;
    this.offeredBytes = this.freeBytes = offeredBytes;
  }

  /** As the control plane sees it. */
  get isOpen(): boolean {
    return this.up;
  }

  /** Grants a lease if it has room. @returns false when it refuses */
  take(sizeBytes = SLAB_CHARGE_BYTES): boolean {
    if (!this.up || this.usedBytes + sizeBytes > this.offeredBytes) return false;
    this.usedBytes += sizeBytes;
    return true;
  }

  /** Gets a slab back. */
  give(): void {
    this.usedBytes -= SLAB_CHARGE_BYTES;
  }

  /** Another one like it, as it is now. */
  twin(): Donor {
    const { index, hostIndex, zoneIndex, offeredBytes, up, freeBytes, usedBytes } = this;
    const twin = new Donor(index, hostIndex, zoneIndex, offeredBytes);
    return Object.assign(twin, { up, freeBytes, usedBytes });
  }

  /** Says how much room it has. */
  tell(): void {
    this.freeBytes = this.offeredBytes - this.usedBytes;
  }
}

/** How many machines make a zone, of a rack of so many: 40, and never fewer than four zones. */
export function zoneSizeOf(donorCount: number): number {
  return Math.max(1, Math.min(40, Math.floor(donorCount / 4)));
}

/** Makes the nodes of a rack, empty. */
export function makeDonors(count: number, random: Random): Donor[] {
  const zoneSize = zoneSizeOf(count);
  const donors: Donor[] = [];
  let hostIndex = -1;
  for (let index = 0; index < count; index += 1) {
    const isTwin = index % TWIN_INTERVAL === TWIN_INTERVAL - 1;
    if (!isTwin) hostIndex += 1;
    const offer = OFFERS_GIB[Math.floor(random() * OFFERS_GIB.length)] ?? 0;
    // Twins stay in one zone: it is counted in nodes, and its size is no multiple of a twin's place.
    const zoneIndex = Math.floor((isTwin ? index - 1 : index) / zoneSize);
    donors.push(new Donor(index, hostIndex, zoneIndex, offer * 2 ** 30));
  }
  return donors;
}

/** So many of a list, each at most once, in random order (the first steps of Fisher and Yates). */
export function drawSome<T>(items: readonly T[], count: number, random: Random): T[] {
  const left = [...items];
  const drawn: T[] = [];
  while (drawn.length < count && left.length > 0) {
    const at = Math.floor(random() * left.length);
    drawn.push(left[at] as T);
    left[at] = left[left.length - 1] as T;
    left.pop();
  }
  return drawn;
}
