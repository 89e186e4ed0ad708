import t from 'tap';
import { RequestWindow } from '../../../nbd-server/client/window.ts';

/** Enters and notes the order of admission. */
function enter(window: RequestWindow, size: number, name: string, log: string[]): Promise<void> {
  return window.enter(size).then(() => void log.push(name));
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

t.test('the count is bounded and waiters come in order', async (t) => {
  const window = new RequestWindow(2, 1000);
  const log: string[] = [];
  for (const name of ['a', 'b', 'c', 'd']) void enter(window, 1, name, log);
  await turn();
  t.same(log, ['a', 'b']);
  window.leave(1);
  await turn();
  t.same(log, ['a', 'b', 'c']);
  window.leave(1);
  await turn();
  t.same(log, ['a', 'b', 'c', 'd']);
});

t.test('bytes are bounded; a small one does not overtake a large one', async (t) => {
  const window = new RequestWindow(10, 100);
  const log: string[] = [];
  void enter(window, 80, 'large', log);
  void enter(window, 50, 'next', log);
  void enter(window, 1, 'small', log);
  await turn();
  t.same(log, ['large']);
  window.leave(80);
  await turn();
  t.same(log, ['large', 'next', 'small']);
});

t.test('one larger than the window enters alone', async (t) => {
  const window = new RequestWindow(10, 100);
  const log: string[] = [];
  void enter(window, 1, 'small', log);
  void enter(window, 500, 'huge', log);
  await turn();
  t.same(log, ['small']);
  window.leave(1);
  await turn();
  t.same(log, ['small', 'huge']);
});

t.test('idle waits for all that is in flight', async (t) => {
  const window = new RequestWindow(1, 100);
  await window.idle();
  const log: string[] = [];
  void enter(window, 1, 'a', log);
  void enter(window, 1, 'b', log);
  void window.idle().then(() => log.push('idle'));
  await turn();
  window.leave(1);
  await turn();
  t.same(log, ['a', 'b']);
  window.leave(1);
  await turn();
  t.same(log, ['a', 'b', 'idle']);
});
