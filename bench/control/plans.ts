/** What the processes of the benchmark `control-plane` are told, as one JSON argument, and what they print. */

/** Where the control node is. */
export interface ControlPlace {
  readonly nodeId: string;
  /** `HOST:PORT`. */
  readonly address: string;
}

/** Providers in one process, each a node of its own on the real transport. */
export interface ProvidersPlan {
  readonly control: ControlPlace;
  /** State directories, one for each; their last part is the name. */
  readonly directories: readonly string[];
  readonly offeredBytes: number;
}

/** Clients in one process. */
export interface ClientsPlan {
  readonly control: ControlPlace;
  /** State directories, one for each. */
  readonly directories: readonly string[];
  /** Providers, so that every session is made before anything is measured. */
  readonly providers: readonly string[];
  readonly work: 'allocate' | 'hold';
  readonly sizeBytes: number;
  readonly ttlMs: number;
  /** `allocate`: allocations one after the other, then with so many in flight. */
  readonly sequentialCount: number;
  readonly inFlight: number;
  readonly seconds: number;
  /** `hold`: so many leases, renewed until SIGUSR2 comes. */
  readonly holdCount: number;
}

/** What one step of an allocation took, milliseconds. */
export interface StepTimes {
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** What `allocate` prints. */
export interface Allocated {
  readonly request: StepTimes;
  readonly present: StepTimes;
  readonly release: StepTimes;
  readonly whole: StepTimes;
  /** Whole allocations a second, `inFlight` at once. */
  readonly perSecond: number;
}

/** What `hold` prints when all its leases are there. */
export interface Filled {
  readonly count: number;
  /** Requested and presented a second, while they were made. */
  readonly perSecond: number;
}

/** What a process of providers prints every second in which leases expired. */
export interface Expired {
  /** From the deadline until the bytes were wiped and free, milliseconds, one for each lease. */
  readonly lateMs: readonly number[];
}
