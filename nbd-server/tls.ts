/**
 * What TLS a server offers: x509 certificates from a directory laid out as qemu and nbdkit expect,
 * or pre-shared keys from a file as `psktool` writes it. TLS 1.2 at least, as proto.md "TLS support"
 * demands; node has pre-shared keys in TLS 1.2 only, so they are bound to that version.
 */
import fs from 'node:fs';
import path from 'node:path';
import tls from 'node:tls';
import { MemcloudError } from '../common/errors.ts';
import type { TlsPolicy } from './negotiation.ts';

/** Suites with a pre-shared key and an ephemeral exchange (RFC 5489, RFC 7905), forward secret. */
const PSK_CIPHERS = 'ECDHE-PSK-CHACHA20-POLY1305:ECDHE-PSK-AES256-CBC-SHA384';

/** Lines in a key file; more is taken for the wrong file. */
const PSK_COUNT_MAX = 10_000;

/** TLS of a server. */
export interface ServerTls {
  /** Whether clients may or must use it. */
  readonly policy: Exclude<TlsPolicy, 'off'>;
  /** Handed to `tls.createServer`. */
  readonly options: tls.TlsOptions;
}

function readFile(file: string): Buffer {
  try {
    return fs.readFileSync(file);
  } catch (cause) {
    throw new MemcloudError('ERR_USAGE', `TLS: cannot read ${file}`, { cause });
  }
}

/**
 * TLS with certificates.
 *
 * @param directory - holds `server-cert.pem`, `server-key.pem` and `ca-cert.pem`
 * @param verifyPeer - true to demand a client certificate signed by the CA
 * @throws MemcloudError `ERR_USAGE` when a file cannot be read or used
 */
export function tlsFromCertificates(
  policy: ServerTls['policy'],
  directory: string,
  verifyPeer: boolean,
): ServerTls {
  const cert = readFile(path.join(directory, 'server-cert.pem'));
  const key = readFile(path.join(directory, 'server-key.pem'));
  const ca = readFile(path.join(directory, 'ca-cert.pem'));
  const options: tls.TlsOptions = {
    cert,
    key,
    ca,
    minVersion: 'TLSv1.2',
    requestCert: verifyPeer,
    rejectUnauthorized: verifyPeer,
  };
  try {
    tls.createSecureContext(options);
  } catch (cause) {
    const what = `TLS: the certificates in ${directory} are unusable`;
    throw new MemcloudError('ERR_USAGE', what, { cause });
  }
  return { policy, options };
}

/**
 * TLS with pre-shared keys.
 *
 * @param file - lines of `IDENTITY:HEXKEY`
 * @throws MemcloudError `ERR_USAGE` when the file cannot be read or a line is malformed
 */
export function tlsFromKeys(policy: ServerTls['policy'], file: string): ServerTls {
  const lines = readFile(file).toString('utf8').split('\n').filter(Boolean);
  const keys = new Map<string, Buffer>();
  for (const [index, line] of lines.entries()) {
    const match = /^([^:]{1,128}):((?:[0-9a-f]{2}){16,64})$/i.exec(line.trim());
    const [, identity, key] = match ?? [];
    if (identity === undefined || key === undefined || index >= PSK_COUNT_MAX) {
      const expected = 'expected IDENTITY:HEXKEY with a key of 16 to 64 bytes';
      throw new MemcloudError('ERR_USAGE', `TLS: ${file} line ${index + 1}: ${expected}`);
    }
    keys.set(identity, Buffer.from(key, 'hex'));
  }
  return {
    policy,
    options: {
      ciphers: PSK_CIPHERS,
      minVersion: 'TLSv1.2',
      maxVersion: 'TLSv1.2',
      // The types leave out null, which node takes for "no such identity".
      pskCallback: (_socket, identity) => keys.get(identity) ?? null,
    },
  };
}
