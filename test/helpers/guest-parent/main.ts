/** Boots a guest, prints the process id of QEMU and waits to be killed; see test/e2e/guest.test.ts. */
import { Guest } from '../../../cli/guest/guest.ts';

const guest = await Guest.boot({ timeoutMs: 120_000, modules: [] });
process.stdout.write(`${guest.pid}\n`);
await guest.run('sleep 1000', { timeoutMs: 110_000 });
