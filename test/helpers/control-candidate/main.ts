/**
 * A candidate for the lead of a control plane, as a process of its own: NAME of an `etcd://` or `embedded:`
 * address. It says in lines of JSON when its terms begin and end; in a term it counts up the entry
 * `/memcloud/v1/work` in transactions with the term's fence, and says each count that is durable.
 * `resign` on standard input hands over; the end of input closes it.
 */
import { writeSync } from 'node:fs';
import readline from 'node:readline';
import { monotonicClock } from '../../../common/clock.ts';
import { asMemcloudError } from '../../../common/errors.ts';
import { silentLogger } from '../../../common/log.ts';
import { Leadership, type Term } from '../../../control-plane/leadership.ts';
import { openMetaStore } from '../../../control-plane/open-store.ts';

const [address = '', name = ''] = process.argv.slice(2);
const WORK = '/memcloud/v1/work';

function say(event: Record<string, unknown>): void {
  writeSync(1, `${JSON.stringify({ name, ...event })}\n`);
}

const store = await openMetaStore(address);
const leadership = new Leadership({
  store,
  nodeId: name.padEnd(32, '0'),
  name,
  address: () => `${name}:7946`,
  clock: monotonicClock,
  logger: silentLogger,
});

let term: Term | undefined;

async function work(mine: Term): Promise<void> {
  while (term === mine) {
    try {
      const entry = await store.get(WORK);
      const count = Number(entry?.value.split(' ')[1] ?? 0) + 1;
      const value = `${mine.epoch} ${count}`;
      const compare = { key: WORK, revision: entry?.revision ?? 0 };
      const revision = await store.transact([mine.fence, compare], [{ put: WORK, value }]);
      say(revision === undefined ? { refused: mine.epoch } : { epoch: mine.epoch, count });
      if (revision === undefined) return;
    } catch (error) {
      say({ failed: asMemcloudError(error).code });
    }
  }
}

leadership.start({
  onElected: (elected) => {
    term = elected;
    say({ elected: elected.epoch });
    void work(elected);
  },
  onDeposed: () => {
    say({ deposed: term?.epoch });
    term = undefined;
  },
});
say({ started: true });

readline
  .createInterface({ input: process.stdin })
  .on('line', (line) => {
    if (line === 'resign') void leadership.resign().then(() => say({ resigned: true }));
    if (line === 'leader') say({ leader: leadership.leader ?? null });
  })
  .on('close', () => {
    void leadership
      .close()
      .then(() => store.close())
      .then(() => say({ closed: true }));
  });
