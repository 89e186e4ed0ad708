/** The whole terminal for a while: what is drawn, and that it is given back. */
import { PassThrough } from 'node:stream';
import t from 'tap';
import { formatRate, ratePerS } from '../../../cli/live/rates.ts';
import { Screen, frame } from '../../../cli/live/screen.ts';

t.test('a picture is cut to the terminal and wipes what was there', (t) => {
  t.equal(frame('abc\nde', 10, 5), '\u001b[Habc\u001b[K\r\nde\u001b[K\u001b[J');
  t.equal(frame('abcdef\nx\ny', 3, 2), '\u001b[Habc\u001b[K\r\nx\u001b[K\u001b[J');
  t.end();
});

t.test('the terminal is given back once, with its cursor, whoever ends it', (t) => {
  let written = '';
  const terminal = { columns: 20, rows: 4, write: (text: string) => (written += text) };
  let raw: boolean | undefined;
  const keyboard = Object.assign(new PassThrough(), {
    isTTY: true,
    setRawMode: (isRaw: boolean) => (raw = isRaw),
  });
  let quitCount = 0;
  const screen = new Screen(terminal, keyboard, () => (quitCount += 1));
  const listeners = process.listenerCount('exit');
  screen.open();
  t.equal(written, '\u001b[?1049h\u001b[?25l');
  t.equal(raw, true);
  screen.draw('hello');
  keyboard.emit('data', Buffer.from('x'));
  t.equal(quitCount, 0);
  keyboard.emit('data', Buffer.from('q'));
  keyboard.emit('data', Buffer.from('\u0003'));
  t.equal(quitCount, 2);
  written = '';
  process.emit('SIGWINCH');
  t.match(written, 'hello', 'drawn anew at another size');
  written = '';
  screen.close();
  screen.close();
  t.equal(written, '\u001b[?25h\u001b[?1049l');
  t.equal(raw, false);
  t.equal(process.listenerCount('exit'), listeners);
  t.end();
});

t.test('rates: a counter that fell began anew', (t) => {
  t.equal(ratePerS(10, 30, 2000), 10);
  t.equal(ratePerS(1000, 30, 1000), 30);
  t.equal(ratePerS(1, 5, 0), 0);
  t.same([0, 0.4, 12, 25_500].map(formatRate), ['0', '0.4/s', '12/s', '25.5k/s']);
  t.end();
});
