/** Waiting that can be given up: it ends by time, by the signal, and leaves nothing on the signal. */
import { getEventListeners } from 'node:events';
import t from 'tap';
import { pause } from '../../common/pause.ts';

const LONG_MS = 3_600_000;

t.test('it ends when its time is over', async (t) => {
  const { signal } = new AbortController();
  await t.resolves(pause(1, signal));
  t.equal(getEventListeners(signal, 'abort').length, 0);
});

t.test('it ends at once when the signal is given, before or meanwhile', async (t) => {
  await t.resolves(pause(LONG_MS, AbortSignal.abort()));
  const controller = new AbortController();
  const waiting = pause(LONG_MS, controller.signal);
  controller.abort();
  await t.resolves(waiting);
  t.equal(getEventListeners(controller.signal, 'abort').length, 0);
});
