/**
 * The main job: a Linux kernel swaps onto two providers' RAM. A guest boots Debian's kernel with
 * memnode inside as the consumer; the providers are processes outside. The program's heap is twice
 * what its control group may hold, so most of it goes out and comes back before it is compared.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import t from 'tap';
import { NodeProcess } from '../../cli/demo/node-process.ts';
import { swapInGuest } from '../../cli/demo/swap-check.ts';
import { skipWithoutGuest } from '../helpers/guest.ts';

t.test(
  'a heap twice its memory limit is swapped onto providers, and every word comes back right',
  { skip: skipWithoutGuest(), timeout: 10 * 60_000 },
  async (t) => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'memcloud-swap-'));
    const providers: NodeProcess[] = [];
    t.teardown(async () => {
      await Promise.all(providers.map((node) => node.stop()));
      fs.rmSync(folder, { recursive: true, force: true });
    });
    for (const name of ['provider-a', 'provider-b']) {
      providers.push(await NodeProcess.start({ name, folder, offer: '1G' }));
    }
    const addresses = providers.map(({ peerAddress }) => peerAddress);
    // Throws unless every word is right, pages really moved both ways, and trims gave RAM back.
    const seen = await swapInGuest(addresses, false, new AbortController().signal);
    t.match(seen, /\d+ pages out, \d+ in, \d+ words checked, 0 wrong/);
    for (const node of providers) {
      const { usage } = await node.use(
        async (client) => (await client.call('status', {})).provider,
      );
      t.equal(usage.usedBytes, 0, `${node.name} has its RAM back once the swap is off`);
      t.equal(usage.residentBytes, 0);
    }
  },
);
