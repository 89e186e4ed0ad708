import t from 'tap';
import { printable, table } from '../../cli/output.ts';

t.test('a name from another machine cannot move the cursor', async (t) => {
  t.equal(printable('plain name ü 漢'), 'plain name ü 漢');
  t.equal(printable('a\x1b[2Jb\nc\rd\u0000'), 'a?[2Jb?c?d?');
  t.equal(printable('\u202Egnp.exe\u200b'), '?gnp.exe?', 'nor turn the text around');
});

t.test('columns are as wide as their widest cell, lines have no trailing blanks', async (t) => {
  t.equal(
    table(
      ['A', 'LONG'],
      [
        ['wide cell', 'x'],
        ['y', ''],
        ['new\nline', 'z'],
      ],
    ),
    'A          LONG\nwide cell  x\ny\nnew?line   z',
  );
  t.equal(table(['A', 'B'], []), 'A  B');
});
