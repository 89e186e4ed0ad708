import t from 'tap';
import { MemcloudError } from '../../../../common/errors.ts';
import {
  keepConnected,
  type LinkEvent,
} from '../../../../nbd-server/client/kernel/keep-connected.ts';

/** An attachment whose reconnects the test answers. */
class FakeAttachment {
  die: () => void = () => undefined;
  readonly attempts: { resolve: () => void; reject: (error: Error) => void }[] = [];
  onLinkDead(sink: () => void): void {
    this.die = sink;
  }
  reconnect(): Promise<void> {
    return new Promise((resolve, reject) => this.attempts.push({ resolve, reject }));
  }
}

const turn = (ms = 5): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function until(condition: () => boolean): Promise<void> {
  const endMs = performance.now() + 5000;
  while (!condition() && performance.now() < endMs) await turn(1);
}

t.test('a death is mended, after as many tries as it takes', async (t) => {
  const attachment = new FakeAttachment();
  const events: LinkEvent[] = [];
  keepConnected(attachment, (event) => events.push(event), 1);
  attachment.die();
  attachment.attempts[0]?.reject(new MemcloudError('ERR_NBD_CLOSED', 'not yet'));
  await until(() => attachment.attempts.length === 2);
  attachment.attempts[1]?.resolve();
  await until(() => events.length === 3);
  t.match(events, [
    { type: 'linkDead' },
    { type: 'retry', attempts: 1, error: { code: 'ERR_NBD_CLOSED' } },
    { type: 'reconnected', attempts: 2 },
  ]);
  t.equal(attachment.attempts.length, 2);
});

t.test(
  'a death during a reconnect starts another round, and only one runs at a time',
  async (t) => {
    const attachment = new FakeAttachment();
    const events: LinkEvent[] = [];
    keepConnected(attachment, (event) => events.push(event), 1);
    attachment.die();
    attachment.die();
    await turn();
    t.equal(attachment.attempts.length, 1);
    attachment.attempts[0]?.resolve();
    await until(() => attachment.attempts.length === 2);
    attachment.attempts[1]?.resolve();
    await until(() => {
      const last = events.at(-1);
      return last?.type === 'reconnected' && last.attempts === 2;
    });
    t.same(events.at(-1), { type: 'reconnected', attempts: 2 });
  },
);

t.test('a closed attachment and a stop end the tries', async (t) => {
  const closed = new FakeAttachment();
  keepConnected(closed, () => undefined, 1);
  closed.die();
  closed.attempts[0]?.reject(new MemcloudError('ERR_CANCELLED', 'closed'));
  const stopped = new FakeAttachment();
  const stop = keepConnected(stopped, () => undefined, 1);
  stopped.die();
  stop();
  stopped.attempts[0]?.reject(new MemcloudError('ERR_NBD_CLOSED', 'gone'));
  stopped.die();
  await turn(20);
  t.equal(closed.attempts.length, 1);
  t.equal(stopped.attempts.length, 1);
});
