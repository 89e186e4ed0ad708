/**
 * A memory device behind the NBD server, for judges run by hand and by the interop tests.
 *
 * Usage: main.js (--unix PATH | --tcp PORT) [--size BYTES] [--name NAME] [--read-only]
 *   [--tls-certs DIR | --tls-psk FILE] [--tls require|allow] [--tls-verify-peer] [--delay MS]
 * or, socket activated: `nbdinfo [ node main.js ]`. Prints one line when it listens.
 */
import { parseArgs } from 'node:util';
import { createLogger } from '../../../common/log.ts';
import { parseSize } from '../../../common/units.ts';
import { inheritedSockets } from '../../../nbd-server/inherited-sockets.ts';
import { NbdServer, type ListenTarget } from '../../../nbd-server/server.ts';
import { tlsFromCertificates, tlsFromKeys } from '../../../nbd-server/tls.ts';
import { MemoryDevice } from '../memory-device.ts';

const { values } = parseArgs({
  options: {
    unix: { type: 'string' },
    tcp: { type: 'string' },
    size: { type: 'string', default: '64M' },
    name: { type: 'string', default: 'memory' },
    'read-only': { type: 'boolean', default: false },
    'tls-certs': { type: 'string' },
    'tls-psk': { type: 'string' },
    'tls-verify-peer': { type: 'boolean', default: false },
    tls: { type: 'string', default: 'require' },
    delay: { type: 'string' },
  },
});

const delayMaxMs = Number(values.delay ?? 0);
const device = new MemoryDevice(parseSize(values.size), {
  name: values.name,
  ...(delayMaxMs > 0 && { delayMs: () => Math.random() * delayMaxMs }),
});
const certificates = values['tls-certs'];
const keys = values['tls-psk'];
const policy = values.tls === 'allow' ? 'allow' : 'require';
const server = new NbdServer({
  logger: createLogger('warn'),
  ...(certificates !== undefined && {
    tls: tlsFromCertificates(policy, certificates, values['tls-verify-peer']),
  }),
  ...(keys !== undefined && { tls: tlsFromKeys(policy, keys) }),
});
server.addExport(device, { readOnly: values['read-only'] });

const targets: ListenTarget[] = inheritedSockets(process.env, process.pid).map((fd) => ({ fd }));
if (values.unix !== undefined) targets.push({ path: values.unix });
if (values.tcp !== undefined) targets.push({ host: '127.0.0.1', port: Number(values.tcp) });
for (const target of targets) {
  const bound = await server.listen(target);
  if (!('fd' in target)) process.stdout.write(`listening ${JSON.stringify(bound)}\n`);
}

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, () => void server.close().then(() => process.exit(0)));
}
