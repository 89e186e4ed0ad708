/**
 * The one error type of the project and the one table of its codes. A code names what went wrong
 * for programs; the message says in one sentence what was expected, what came and, where it helps,
 * what to do. Secrets and page bytes never enter a message.
 */

/** Whose doing an error is: the caller or this machine, another machine, or a defect of ours. */
export type Fault = 'local' | 'remote' | 'internal';

/**
 * Exit codes of the command line, also the coarse class of every error code.
 * `docs/cli-json.md` documents them for scripts.
 */
export const ExitCode = {
  OK: 0,
  FAILURE: 1,
  USAGE: 2,
  DAEMON_NOT_RUNNING: 3,
  CONSENT_NEEDED: 4,
  RETRYABLE: 5,
  NOT_FOUND: 6,
  CAPACITY: 7,
  DATA_LOST: 8,
  DOCTOR_PROBLEMS: 9,
} as const;

/** One of the values of {@link ExitCode}. */
export type ExitCodeValue = (typeof ExitCode)[keyof typeof ExitCode];

interface CodeRow {
  readonly fault: Fault;
  readonly exitCode: ExitCodeValue;
  readonly meaning: string;
}

/** Every error code, whose fault it is, its exit code and its meaning. A test holds `docs/errors.md` equal to it. */
export const ERROR_CODES = {
  ERR_USAGE: { fault: 'local', exitCode: 2, meaning: 'a command line or RPC parameter is wrong' },
  ERR_USAGE_SIZE: { fault: 'local', exitCode: 2, meaning: 'a size could not be read' },
  ERR_USAGE_ADDRESS: { fault: 'local', exitCode: 2, meaning: 'an address could not be read' },
  ERR_CONFIG: { fault: 'local', exitCode: 2, meaning: 'a configuration file is wrong' },
  ERR_DAEMON_UNREACHABLE: {
    fault: 'local',
    exitCode: 3,
    meaning: 'no memnode answers on the RPC socket',
  },
  ERR_DAEMON_BUSY: {
    fault: 'local',
    exitCode: 1,
    meaning: 'another memnode holds the state directory or the socket',
  },
  ERR_RPC_PROTOCOL: {
    fault: 'remote',
    exitCode: 1,
    meaning: 'an RPC message broke the RPC protocol',
  },
  ERR_RPC_UNKNOWN_METHOD: {
    fault: 'local',
    exitCode: 2,
    meaning: 'the daemon has no such RPC method',
  },
  ERR_NATIVE: { fault: 'local', exitCode: 1, meaning: 'a system call failed' },
  ERR_UNSUPPORTED: {
    fault: 'local',
    exitCode: 1,
    meaning: 'this machine, or a provider, lacks what the command needs',
  },
  ERR_INTERNAL: {
    fault: 'internal',
    exitCode: 1,
    meaning: 'a defect of MemCloud; please report it',
  },
  ERR_TIMEOUT: { fault: 'remote', exitCode: 5, meaning: 'a deadline passed' },
  ERR_CANCELLED: {
    fault: 'local',
    exitCode: 1,
    meaning: 'the caller or a shutdown ended the work',
  },
  ERR_NBD_PROTOCOL: { fault: 'remote', exitCode: 1, meaning: 'an NBD peer broke the NBD protocol' },
  ERR_NBD_OPTION: { fault: 'remote', exitCode: 1, meaning: 'an NBD server refused an option' },
  ERR_NBD_EXPORT_UNKNOWN: {
    fault: 'local',
    exitCode: 6,
    meaning: 'there is no export of that name',
  },
  ERR_NBD_ATTACH: {
    fault: 'local',
    exitCode: 1,
    meaning: 'the kernel refused to attach or detach a device',
  },
  ERR_NBD_IO: {
    fault: 'remote',
    exitCode: 1,
    meaning: 'an NBD server answered a request with an error',
  },
  ERR_NBD_CLOSED: {
    fault: 'remote',
    exitCode: 5,
    meaning: 'there is no connection to an NBD server, or it ended',
  },
  ERR_GUEST: { fault: 'local', exitCode: 1, meaning: 'a QEMU guest could not be made or ended' },
  ERR_PEER_UNREACHABLE: {
    fault: 'remote',
    exitCode: 5,
    meaning: 'a peer could not be reached or its session ended',
  },
  ERR_PEER_HANDSHAKE: { fault: 'remote', exitCode: 1, meaning: 'a peer broke the handshake' },
  ERR_PEER_PROTOCOL: { fault: 'remote', exitCode: 1, meaning: 'a peer broke the session protocol' },
  ERR_PEER_AUTHENTICATION: {
    fault: 'remote',
    exitCode: 4,
    meaning: 'a record or a signature of a peer did not verify',
  },
  ERR_PEER_UNTRUSTED: {
    fault: 'remote',
    exitCode: 4,
    meaning: 'the peer is not trusted here, or we are not trusted there',
  },
  ERR_PEER_KEY_CHANGED: {
    fault: 'remote',
    exitCode: 4,
    meaning: 'a known name came with another key',
  },
  ERR_PEER_UNKNOWN: { fault: 'local', exitCode: 6, meaning: 'no peer has that name or id' },
  ERR_IDENTITY: {
    fault: 'local',
    exitCode: 1,
    meaning: 'the identity key could not be read or made',
  },
  ERR_LEASE_CAPACITY: {
    fault: 'remote',
    exitCode: 7,
    meaning: 'a provider has no room within its offer or the quota',
  },
  ERR_LEASE_UNKNOWN: {
    fault: 'remote',
    exitCode: 6,
    meaning: 'the lease is unknown, expired or held by another key',
  },
  ERR_LEASE_INVALID: { fault: 'remote', exitCode: 2, meaning: 'a lease request is out of range' },
  ERR_VOLUME_EXISTS: { fault: 'local', exitCode: 1, meaning: 'a volume of that name exists' },
  ERR_VOLUME_UNKNOWN: { fault: 'local', exitCode: 6, meaning: 'there is no volume of that name' },
  ERR_VOLUME_BUSY: { fault: 'local', exitCode: 1, meaning: 'the volume is served or attached' },
  ERR_VOLUME_SIZE: { fault: 'local', exitCode: 2, meaning: 'the volume size is out of range' },
  ERR_VOLUME_CAPACITY: {
    fault: 'remote',
    exitCode: 7,
    meaning: 'the pool has too little room or too few providers',
  },
  ERR_DRAIN_ROOM: {
    fault: 'remote',
    exitCode: 7,
    meaning: 'the rest of the pool cannot take what a node to be drained holds',
  },
  ERR_DATA_LOST: {
    fault: 'remote',
    exitCode: 8,
    meaning: 'pages were lost: every copy is gone or damaged',
  },
  ERR_HANDOVER: {
    fault: 'local',
    exitCode: 1,
    meaning: 'memnode could not be replaced under its volumes; the one that ran goes on',
  },
  ERR_MOUNT_POINT: {
    fault: 'local',
    exitCode: 2,
    meaning: 'the mount point is missing, no directory, taken, or one that memnode needs',
  },
  ERR_MOUNT_UNKNOWN: { fault: 'local', exitCode: 6, meaning: 'memnode has no mount there' },
  ERR_MOUNT_BUSY: {
    fault: 'local',
    exitCode: 5,
    meaning: 'programs use the mount; it stays',
  },
  ERR_MOUNT_FAILED: {
    fault: 'local',
    exitCode: 1,
    meaning: 'the file system could not be mounted or unmounted',
  },
  ERR_MOUNT_TRANSPORT: {
    fault: 'local',
    exitCode: 1,
    meaning: 'requests of a mount cannot come the way that was asked for',
  },
  ERR_OBJECT_UNKNOWN: {
    fault: 'local',
    exitCode: 6,
    meaning: 'there is no such object, or none that this node may read',
  },
  ERR_OBJECT_DENIED: {
    fault: 'remote',
    exitCode: 4,
    meaning: 'the object belongs to another node',
  },
  ERR_OBJECT_CONFLICT: {
    fault: 'remote',
    exitCode: 5,
    meaning: 'the object is not at the version that was asked for',
  },
  ERR_OBJECT_SEAL: {
    fault: 'remote',
    exitCode: 8,
    meaning: 'a sealed object does not open: another key, or altered bytes',
  },
  ERR_INVITE: {
    fault: 'remote',
    exitCode: 4,
    meaning: 'an invitation is malformed, unknown, used up or too old',
  },
  ERR_CONTROL_UNREACHABLE: {
    fault: 'remote',
    exitCode: 5,
    meaning: 'no control node answers, or none leads; leases that run go on to their end',
  },
  ERR_CONTROL_DENIED: {
    fault: 'remote',
    exitCode: 4,
    meaning: 'the control plane does not let this node do that',
  },
  ERR_CONTROL_QUOTA: {
    fault: 'remote',
    exitCode: 7,
    meaning: 'the quota of this client at the control plane is used up',
  },
  ERR_CONTROL_NOT_LEADER: {
    fault: 'remote',
    exitCode: 5,
    meaning: 'another control node leads; it is to be asked',
  },
  ERR_CONTROL_STORE: {
    fault: 'local',
    exitCode: 5,
    meaning: 'the store of the control plane cannot be reached, is full or damaged',
  },
  ERR_CONTROL_PROTOCOL: {
    fault: 'remote',
    exitCode: 1,
    meaning: 'a message of managed mode is malformed',
  },
  ERR_TOKEN: {
    fault: 'remote',
    exitCode: 4,
    meaning: 'an allocation token is altered, used, too old, or of another client or provider',
  },
  ERR_RPC_DENIED: {
    fault: 'local',
    exitCode: 4,
    meaning: 'the daemon does not take RPC from this user or with this token',
  },
  ERR_SWAP_UNSAFE: {
    fault: 'local',
    exitCode: 1,
    meaning: 'the swap set-up asked for can freeze this machine',
  },
} as const satisfies Record<string, CodeRow>;

/** A code of {@link ERROR_CODES}. */
export type ErrorCode = keyof typeof ERROR_CODES;

/** The base class of every error that the project throws for the world's faults. */
export class MemcloudError extends Error {
  /** What went wrong, for programs. */
  readonly code: ErrorCode;

  /**
   * @param code - what went wrong
   * @param message - one sentence: what was expected, what came, what to do
   * @param options - the error underneath, if any
   */
  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'MemcloudError';
    this.code = code;
  }

  /** Whose doing it is. */
  get fault(): Fault {
    return ERROR_CODES[this.code].fault;
  }

  /** The exit code with which the command line reports it. */
  get exitCode(): ExitCodeValue {
    return ERROR_CODES[this.code].exitCode;
  }
}

/** True when `text` is a code of the table, as read from another process. */
export function isErrorCode(text: unknown): text is ErrorCode {
  return typeof text === 'string' && Object.hasOwn(ERROR_CODES, text);
}

/** Turns anything that was thrown into a {@link MemcloudError}; what is not one already is ours to mend. */
export function asMemcloudError(thrown: unknown): MemcloudError {
  if (thrown instanceof MemcloudError) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new MemcloudError('ERR_INTERNAL', message, { cause: thrown });
}
