/**
 * What TLS a server offers: x509 certificates from a directory laid out as qemu and nbdkit expect,
 * or pre-shared keys from a file as `psktool` writes it. TLS 1.2 at least (proto.md "TLS support").
 */
import fs from 'node:fs';
import path from 'node:path';
import tls from 'node:tls';
import { MemcloudError } from '../common/errors.ts';
import type { TlsPolicy } from './negotiation.ts';

/** TLS of a server. */
export interface ServerTls {
  /** Whether clients may or must use it. */
  readonly policy: Exclude<TlsPolicy, 'off'>;
  /** Handed to `tls.TLSSocket`. */
  readonly options: tls.TLSSocketOptions & Pick<tls.TlsOptions, 'pskCallback' | 'pskIdentityHint'>;
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
  try {
    const secureContext = tls.createSecureContext({ cert, key, ca, minVersion: 'TLSv1.2' });
    const options = { secureContext, requestCert: verifyPeer, rejectUnauthorized: verifyPeer };
    return { policy, options };
  } catch (cause) {
    throw new MemcloudError('ERR_USAGE', `TLS: the certificates in ${directory} are unusable`, {
      cause,
    });
  }
}
