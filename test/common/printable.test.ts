/** Nothing that a terminal would obey comes through, and nothing longer than was asked for. */
import t from 'tap';
import { printableAscii } from '../../common/printable.ts';

t.test('printable ASCII stays, everything else is a question mark', (t) => {
  const all = Array.from({ length: 0x300 }, (_, code) => String.fromCharCode(code)).join('');
  const shown = printableAscii(all, all.length);
  t.equal(shown.length, all.length);
  for (let code = 0; code < all.length; code += 1) {
    const isPrintable = code >= 0x20 && code <= 0x7e;
    const expected = isPrintable ? String.fromCharCode(code) : '?';
    if (shown[code] !== expected) t.equal(shown[code], expected, `U+${code.toString(16)}`);
  }
  t.equal(printableAscii('\u001b[31mred', 100), '?[31mred');
  t.equal(printableAscii('\u{1f600}x', 100), '??x');
  t.equal(printableAscii('abcdef', 3), 'abc');
  t.end();
});
