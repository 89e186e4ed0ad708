/**
 * A process that uses a store until it is killed: opens what its first argument names, then makes one
 * transaction after the other, several at a time; transaction N puts N under `/t/N % 8/a` to `/t/N % 8/e`. It prints
 * `open`, or the error's code, then each N when it is durable. With `hold` as its second argument it only keeps the store open; with
 * `once` it watches, reads once, closes the store and has to end by itself.
 */
import { writeSync } from 'node:fs';
import { openMetaStore } from '../../../control-plane/open-store.ts';
import { asMemcloudError } from '../../../common/errors.ts';

const [address = '', mode = 'write'] = process.argv.slice(2);

function say(text: string): void {
  writeSync(1, `${text}\n`);
}

async function write(): Promise<void> {
  const store = await openMetaStore(address);
  say('open');
  if (mode === 'hold') {
    const lease = await store.grant(60_000);
    await store.put('/under-lease', '1', lease);
    await store.put('/free', '1');
    say('held');
    setInterval(() => undefined, 60_000);
    return;
  }
  if (mode === 'once') {
    store.watch('', 0, { onChanges: () => undefined, onLost: () => undefined });
    await store.get('/a').then(
      () => say('read'),
      (error: unknown) => {
        const { code, message } = asMemcloudError(error);
        say(`${code} ${message}`);
      },
    );
    await store.close();
    say('closed');
    return;
  }
  let next = 0;
  const lane = async (): Promise<never> => {
    for (;;) {
      const number = next;
      next += 1;
      const filler = 'x'.repeat(number % 3000);
      const ops = ['a', 'b', 'c', 'd', 'e'].map((name) => ({
        put: `/t/${number % 8}/${name}`,
        value: `${number} ${filler}`,
      }));
      await store.transact([], ops);
      say(String(number));
    }
  };
  await Promise.all([lane(), lane(), lane(), lane()]);
}

write().catch((error: unknown) => {
  const { code, message } = asMemcloudError(error);
  say(`${code} ${message}`);
  process.exitCode = 1;
});
