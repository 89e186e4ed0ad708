/**
 * nbd-server as a peer in our topology: a file on a tmpfs behind its own TLS with a certificate, and nbdkit's
 * nbd plugin in the place of our consumer. The key and the certificate are made for the run, by openssl.
 */
import fs from 'node:fs';
import path from 'node:path';
import type { Stage } from '../stage.ts';
import { freePort, serveNbdkit, unixUri } from './nbdkit.ts';
import { sparseTmpfsFile } from './qemu-nbd.ts';
import type { Target } from './target.ts';

const START_TIMEOUT_MS = 10_000;
const OPENSSL_TIMEOUT_MS = 30_000;
/** nbdkit tries once a second until the server listens. */
const CONNECT_RETRY_S = 10;
const EXPORT_NAME = 'bench';

/** A key and a certificate, its own authority; both sides prove themselves by it, as nbd-server demands. */
async function makeCertificate(
  stage: Stage,
  directory: string,
): Promise<{ keyFile: string; certificateFile: string }> {
  const keyFile = path.join(directory, 'key.pem');
  const certificateFile = path.join(directory, 'ca-cert.pem');
  await stage.run(
    'openssl',
    [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
      ...['-days', '1', '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'],
      ...['-keyout', keyFile, '-out', certificateFile],
    ],
    OPENSSL_TIMEOUT_MS,
  );
  // The names under which libnbd looks for those of a client.
  fs.copyFileSync(certificateFile, path.join(directory, 'client-cert.pem'));
  fs.copyFileSync(keyFile, path.join(directory, 'client-key.pem'));
  return { keyFile, certificateFile };
}

/** See the top of the file. */
export const nbdServerTls: Target = {
  name: 'nbd-server-tls',
  description: 'nbdkit nbd plugin -> TLS over TCP loopback -> nbd-server on a tmpfs file, two hops',
  tools: ['nbdkit', 'nbd-server', 'openssl'],
  ours: false,
  start: async (stage, sizeBytes) => {
    const directory = stage.makeDirectory('nbd-server-tls');
    const { keyFile, certificateFile } = await makeCertificate(stage, directory);
    const image = sparseTmpfsFile(stage, sizeBytes);
    const port = await freePort();
    const configFile = path.join(directory, 'config');
    fs.writeFileSync(
      configFile,
      [
        ...['[generic]', 'listenaddr = 127.0.0.1', `port = ${port}`, 'force_tls = true'],
        ...[`keyfile = ${keyFile}`, `certfile = ${certificateFile}`],
        `cacertfile = ${certificateFile}`,
        ...[`[${EXPORT_NAME}]`, `exportname = ${image.path}`, ''],
      ].join('\n'),
    );
    // In the foreground it serves one connection and says nothing: the one that nbdkit keeps for all.
    const foreground = ['-d', '--config-file', configFile];
    const remote = await stage.serve('nbd-server', foreground, START_TIMEOUT_MS, () => true);
    const socketPath = path.join(directory, 'nbd.sock');
    const local = await serveNbdkit(stage, directory, 'nbd', [
      ...['--unix', socketPath, 'nbd', 'hostname=localhost', `port=${port}`],
      ...[`export=${EXPORT_NAME}`, 'tls=require', `tls-certificates=${directory}`],
      ...['shared=true', `retry=${CONNECT_RETRY_S}`],
    ]);
    return {
      uri: unixUri(socketPath),
      pids: [local.pid, remote.pid],
      stop: async () => {
        await local.stop();
        await remote.stop();
        image.remove();
      },
    };
  },
};
