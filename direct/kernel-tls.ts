/**
 * The consumer's end of a data connection, set up on a raw socket: the preface in clear, then the
 * keys go to the kernel, which seals and opens every record from there on (kTLS), so that whoever
 * has the descriptor, in our case the kernel's nbd, reads and writes plain NBD. Where the link is
 * protected otherwise, a proof takes the place of the keys.
 *
 * Sources: Linux `include/uapi/linux/tls.h`, `include/uapi/linux/tcp.h`,
 * Documentation/networking/tls.rst. ChaCha20-Poly1305 is known since Linux 5.11, TLS 1.3 since 5.1.
 */
import koffi from 'koffi';
import {
  DIRECT_PREFACE_MAGIC,
  DIRECT_SECRET_SIZE_BYTES,
  DIRECT_TICKET_ID_SIZE_BYTES,
} from '../common/direct-constants.ts';
import { MemcloudError } from '../common/errors.ts';
import { errnoName, throwErrno, trySetSocketOption } from '../common/libc.ts';
import { TLS_IV_SIZE_BYTES, TLS_KEY_SIZE_BYTES } from './constants.ts';
import {
  deriveDirectKeys,
  derivePlainProof,
  wipeDirectKeys,
  type DirectKeyMaterial,
  type DirectionKeys,
} from './keys.ts';

/** Linux `include/linux/socket.h`, `include/uapi/linux/tcp.h`. */
const SOL_SOCKET = 1;
const SO_SNDTIMEO = 21;
const SOL_TCP = 6;
const TCP_ULP = 31;
const SOL_TLS = 282;
const MSG_NOSIGNAL = 0x4000;
const AF_INET = 2;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0x80000;

/** Linux `include/uapi/linux/tls.h`. */
const TLS_TX = 1;
const TLS_RX = 2;
const TLS_RX_EXPECT_NO_PAD = 4;
const TLS_1_3_VERSION = 0x0304;
const TLS_CIPHER_CHACHA20_POLY1305 = 54;
/** `struct tls12_crypto_info_chacha20_poly1305`: version, cipher, iv, key, no salt, record number. */
const CRYPTO_INFO_SIZE_BYTES = 4 + TLS_IV_SIZE_BYTES + TLS_KEY_SIZE_BYTES + 8;

/** Time for a connection of the probe to itself. */
const PROBE_CONNECT_TIMEOUT_S = 1;

const { ENOENT, EINVAL, ENOPROTOOPT, EBUSY } = koffi.os.errno;

const libc = koffi.load(null);
const sendCall = libc.func('intptr_t send(int fd, void *bytes, size_t length, int flags)');
const socketCall = libc.func('int socket(int domain, int type, int protocol)');
const bindCall = libc.func('int bind(int fd, void *address, uint32_t length)');
const listenCall = libc.func('int listen(int fd, int backlog)');
const connectCall = libc.func('int connect(int fd, void *address, uint32_t length)');
const getsocknameCall = libc.func(
  'int getsockname(int fd, _Out_ uint8_t *address, _Inout_ uint32_t *length)',
);
const closeCall = libc.func('int close(int fd)');

/** What a consumer knows of a connection that it is about to begin; all lower-case hex. */
export interface DirectCredentials {
  /** 32 digits. */
  readonly ticketId: string;
  /** 64 digits: the provider's share of the keys. */
  readonly secret: string;
  /** 64 digits: the share that this consumer sent when it asked for the ticket. */
  readonly consumerNonce: string;
}

/** Whether this kernel can protect a data connection, and what is missing if not. */
export type KernelTlsSupport =
  { readonly supported: true } | { readonly supported: false; readonly reason: string };

/** The bytes that a data connection begins with. */
export function encodePreface(ticketId: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(DIRECT_PREFACE_MAGIC, 'latin1'), ticketId]);
}

/**
 * Begins a data connection on a connected TCP socket that nothing was sent on: sends the preface and
 * gives the kernel the keys. Afterwards plain send and recv on `fd` carry NBD.
 *
 * @throws MemcloudError `ERR_UNSUPPORTED` with what the kernel lacks, `ERR_NBD_CLOSED` when the
 *   connection is gone already, `ERR_USAGE` for credentials that are no hex of the right length
 */
export function beginDirectConnection(fd: number, credentials: DirectCredentials): void {
  const material = readCredentials(credentials);
  const keys = deriveDirectKeys(material);
  try {
    sendWhole(fd, encodePreface(material.ticketId));
    setKernelTls(fd, keys.consumer, keys.provider);
  } finally {
    wipeDirectKeys(keys);
    material.secret.fill(0);
  }
}

/**
 * Begins a data connection without records: the preface, and the proof that this node was given the
 * ticket. Afterwards send and recv on `fd` carry NBD as it is. Only for a link that is protected below, or
 * for who insists.
 *
 * @throws MemcloudError `ERR_NBD_CLOSED`, `ERR_USAGE` as {@link beginDirectConnection}
 */
export function beginPlainConnection(fd: number, credentials: DirectCredentials): void {
  const material = readCredentials(credentials);
  const opening = Buffer.concat([encodePreface(material.ticketId), derivePlainProof(material)]);
  material.secret.fill(0);
  sendWhole(fd, opening);
  opening.fill(0);
}

/**
 * Finds out whether this kernel has all that {@link beginDirectConnection} needs, on a throw-away
 * connection of this process to itself. Root's question makes the kernel load the module `tls`, as
 * the real use would; nothing else stays.
 */
export function kernelTlsSupport(): KernelTlsSupport {
  const noKeys = { key: Buffer.alloc(TLS_KEY_SIZE_BYTES), iv: Buffer.alloc(TLS_IV_SIZE_BYTES) };
  const fds: number[] = [];
  try {
    setKernelTls(connectToSelf(fds), noKeys, noKeys);
    return { supported: true };
  } catch (error) {
    if (error instanceof MemcloudError) return { supported: false, reason: error.message };
    throw error;
  } finally {
    for (const fd of fds) closeCall(fd);
  }
}

function readCredentials(credentials: DirectCredentials): DirectKeyMaterial {
  const { ticketId, secret, consumerNonce } = credentials;
  return {
    ticketId: fromHex(ticketId, DIRECT_TICKET_ID_SIZE_BYTES, 'ticket id'),
    secret: fromHex(secret, DIRECT_SECRET_SIZE_BYTES, 'secret'),
    consumerNonce: fromHex(consumerNonce, DIRECT_SECRET_SIZE_BYTES, 'nonce'),
  };
}

function sendWhole(fd: number, bytes: Buffer): void {
  // A fresh socket has room for far more than these few bytes.
  const sent = sendCall(fd, bytes, bytes.length, MSG_NOSIGNAL) as number;
  if (sent === bytes.length) return;
  const why = sent < 0 ? errnoName(koffi.errno()) : `${sent} of ${bytes.length} bytes were taken`;
  throw new MemcloudError('ERR_NBD_CLOSED', `the data connection did not begin: ${why}`);
}

function setKernelTls(fd: number, writeKeys: DirectionKeys, readKeys: DirectionKeys): void {
  const ulp = trySetSocketOption(fd, SOL_TCP, TCP_ULP, Buffer.from('tls\0'));
  if (ulp !== 0) throw ulpError(ulp);
  for (const [direction, keys] of [
    [TLS_TX, writeKeys],
    [TLS_RX, readKeys],
  ] as const) {
    const info = encodeCryptoInfo(keys);
    const errno = trySetSocketOption(fd, SOL_TLS, direction, info);
    info.fill(0);
    if (errno !== 0) throw cipherError(errno);
  }
  // Known since Linux 6.0; without it the kernel copies once more, that is all.
  const one = Buffer.alloc(4);
  one.writeUInt32LE(1);
  trySetSocketOption(fd, SOL_TLS, TLS_RX_EXPECT_NO_PAD, one);
}

function encodeCryptoInfo({ key, iv }: DirectionKeys): Buffer {
  const info = Buffer.alloc(CRYPTO_INFO_SIZE_BYTES);
  info.writeUInt16LE(TLS_1_3_VERSION, 0);
  info.writeUInt16LE(TLS_CIPHER_CHACHA20_POLY1305, 2);
  info.set(iv, 4);
  info.set(key, 4 + TLS_IV_SIZE_BYTES);
  return info;
}

function ulpError(errno: number): MemcloudError {
  const what =
    errno === ENOENT
      ? 'the kernel has no TLS for sockets; run: modprobe tls'
      : errno === ENOPROTOOPT
        ? 'the kernel is too old for TLS on sockets (Linux 5.11 and CONFIG_TLS are needed)'
        : `the kernel refused TLS on a socket (TCP_ULP): ${errnoName(errno)}`;
  return new MemcloudError('ERR_UNSUPPORTED', `kernel TLS: ${what}`);
}

function cipherError(errno: number): MemcloudError {
  const what =
    errno === ENOENT
      ? 'the kernel has no rfc7539(chacha20,poly1305); run: modprobe chacha20poly1305'
      : errno === EINVAL || errno === ENOPROTOOPT
        ? 'the kernel knows no TLS 1.3 with ChaCha20-Poly1305 (Linux 5.11 is needed)'
        : errno === EBUSY
          ? 'the socket has its keys already'
          : `the kernel refused the keys: ${errnoName(errno)}`;
  return new MemcloudError('ERR_UNSUPPORTED', `kernel TLS: ${what}`);
}

/** A connection over the loopback, never accepted: that is enough for the kernel. */
function connectToSelf(fds: number[]): number {
  const open = (): number => {
    const fd = socketCall(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) as number;
    if (fd < 0) throwErrno('socket');
    fds.push(fd);
    return fd;
  };
  const listener = open();
  const address = Buffer.alloc(16);
  address.writeUInt16LE(AF_INET, 0);
  address.set([127, 0, 0, 1], 4);
  if (bindCall(listener, address, address.length) !== 0) throwErrno('bind');
  if (listenCall(listener, 1) !== 0) throwErrno('listen');
  if (getsocknameCall(listener, address, [address.length]) !== 0) throwErrno('getsockname');
  const client = open();
  const timeout = Buffer.alloc(16);
  timeout.writeBigInt64LE(BigInt(PROBE_CONNECT_TIMEOUT_S), 0);
  if (trySetSocketOption(client, SOL_SOCKET, SO_SNDTIMEO, timeout) !== 0) throwErrno('setsockopt');
  if (connectCall(client, address, address.length) !== 0) throwErrno('connect');
  return client;
}

function fromHex(text: string, sizeBytes: number, what: string): Buffer {
  if (text.length !== 2 * sizeBytes || !/^[0-9a-f]*$/.test(text)) {
    throw new MemcloudError(
      'ERR_USAGE',
      `direct connection, ${what}: expected ${2 * sizeBytes} lower-case hex digits`,
    );
  }
  return Buffer.from(text, 'hex');
}
