/**
 * `--store` as the operator writes it:
 *
 *   embedded:DIR
 *   etcd://HOST:PORT[,HOST:PORT...][?PARAMETER=VALUE[&...]]
 *
 * Parameters: `tls=on` (the system's authorities), `ca=FILE` (another one), `cert=FILE` and `key=FILE`
 * (a client certificate), `user=NAME` and `password-file=FILE`. A password is only taken from a file:
 * every user of a machine sees its command lines.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { MemcloudError } from '../common/errors.ts';
import type { EtcdAddress } from './etcd-endpoints.ts';
import { openEtcdStore } from './etcd-store.ts';
import { openLmdbStore } from './lmdb-store.ts';
import type { MetaStore } from './meta-store.ts';

const EMBEDDED = 'embedded:';
const ETCD = 'etcd://';
const ETCD_PORT_DEFAULT = 2379;
const HOST_COUNT_MAX = 16;
const FILE_SIZE_MAX_BYTES = 1024 * 1024;
const PARAMETERS = ['tls', 'ca', 'cert', 'key', 'user', 'password-file'] as const;
type Parameter = (typeof PARAMETERS)[number];

function usage(problem: string): MemcloudError {
  return new MemcloudError('ERR_USAGE', problem);
}

/**
 * Opens the store that `text` names.
 *
 * @throws MemcloudError `ERR_USAGE` when it names none, or a file that cannot be read; and as
 *   `openLmdbStore`. etcd need not answer yet
 */
export async function openMetaStore(text: string): Promise<MetaStore> {
  if (text.startsWith(EMBEDDED)) {
    const directory = text.slice(EMBEDDED.length);
    if (directory === '') throw usage(`${EMBEDDED} needs a directory: embedded:/var/lib/...`);
    return openLmdbStore(path.resolve(directory));
  }
  if (text.startsWith(ETCD)) return openEtcdStore(parseEtcdAddress(text.slice(ETCD.length)));
  // Not echoed: it may have a password in it.
  throw usage('a store is embedded:DIR or etcd://HOST:PORT[,HOST:PORT...], not what was given');
}

function parseEtcdAddress(text: string): EtcdAddress {
  const [hosts = '', query, ...rest] = text.split('?');
  if (rest.length > 0) throw usage('a store address has one "?" at most');
  const parameters = parseParameters(query);
  const tls = parseTls(parameters);
  const user = parseUser(parameters);
  return {
    hosts: parseHosts(hosts),
    ...(tls !== undefined && { tls }),
    ...(user !== undefined && { user }),
  };
}

function parseHosts(text: string): string[] {
  if (text.includes('@')) {
    throw usage('a store address has no user before "@": use ?user=NAME&password-file=FILE');
  }
  const hosts = text.replace(/\/$/, '').split(',').map(parseHost);
  if (hosts.length <= HOST_COUNT_MAX) return hosts;
  throw usage(`a store address has at most ${HOST_COUNT_MAX} hosts, got ${hosts.length}`);
}

function parseHost(text: string): string {
  const match = /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+)(?::(\d{1,5}))?$/.exec(text);
  const port = match?.[2] === undefined ? ETCD_PORT_DEFAULT : Number(match[2]);
  if (match?.[1] !== undefined && port >= 1 && port <= 65_535) return `${match[1]}:${port}`;
  throw usage(`a host of etcd: expected HOST:PORT, got "${text.slice(0, 64)}"`);
}

function parseParameters(query: string | undefined): Map<Parameter, string> {
  const parameters = new Map<Parameter, string>();
  for (const [name, value] of new URLSearchParams(query ?? '')) {
    if (name === 'password') {
      throw usage('a password is only read from a file: use password-file=FILE');
    }
    const known = PARAMETERS.find((parameter) => parameter === name);
    if (known === undefined) {
      const names = PARAMETERS.join(', ');
      throw usage(`a store address takes ${names}; "${name.slice(0, 32)}" is none of them`);
    }
    if (parameters.has(known)) throw usage(`a store address has ${known} once at most`);
    if (value === '') throw usage(`${known} in a store address needs a value`);
    parameters.set(known, value);
  }
  return parameters;
}

function readFile(what: Parameter, file: string | undefined): Buffer | undefined {
  if (file === undefined) return undefined;
  try {
    const bytes = fs.readFileSync(file);
    if (bytes.length > 0 && bytes.length <= FILE_SIZE_MAX_BYTES) return bytes;
    throw usage(
      `${what}: expected 1 to ${FILE_SIZE_MAX_BYTES} bytes in ${file}, got ${bytes.length}`,
    );
  } catch (cause) {
    if (cause instanceof MemcloudError) throw cause;
    const { code } = cause as NodeJS.ErrnoException;
    throw new MemcloudError('ERR_USAGE', `${what}: cannot read ${file}: ${code}`, { cause });
  }
}

function requirePem(what: Parameter, parse: () => unknown): void {
  try {
    parse();
  } catch (cause) {
    const wanted = what === 'key' ? 'a private key without a password' : 'a certificate';
    const problem = `${what} in a store address: expected ${wanted} as PEM`;
    throw new MemcloudError('ERR_USAGE', problem, { cause });
  }
}

function parseTls(parameters: ReadonlyMap<Parameter, string>): EtcdAddress['tls'] {
  const mode = parameters.get('tls');
  if (mode !== undefined && mode !== 'on') {
    throw usage(`tls in a store address: expected "on", got "${mode.slice(0, 32)}"`);
  }
  const [ca, cert, key] = (['ca', 'cert', 'key'] as const).map((name) =>
    readFile(name, parameters.get(name)),
  );
  if ((cert === undefined) !== (key === undefined)) {
    throw usage('a store address with a client certificate needs both cert=FILE and key=FILE');
  }
  if (ca !== undefined) requirePem('ca', () => new X509Certificate(ca));
  if (cert !== undefined) requirePem('cert', () => new X509Certificate(cert));
  if (key !== undefined) requirePem('key', () => createPrivateKey(key));
  if (mode === undefined && ca === undefined && cert === undefined) return undefined;
  return {
    ...(ca !== undefined && { ca }),
    ...(cert !== undefined && { cert }),
    ...(key !== undefined && { key }),
  };
}

function parseUser(parameters: ReadonlyMap<Parameter, string>): EtcdAddress['user'] {
  const name = parameters.get('user');
  const file = parameters.get('password-file');
  if ((name === undefined) !== (file === undefined)) {
    throw usage('a store address with a user needs both user=NAME and password-file=FILE');
  }
  if (name === undefined) return undefined;
  const password =
    readFile('password-file', file)
      ?.toString()
      .replace(/\r?\n$/, '') ?? '';
  return { name, password };
}
