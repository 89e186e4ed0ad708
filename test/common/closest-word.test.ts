import t from 'tap';
import { closestWord } from '../../common/closest-word.ts';

const WORDS = ['offer', 'name', 'listen', 'connect', 'state', 'swap', 'swap.size'];

t.test('a mistyped word finds the one that was meant, another finds none', (t) => {
  const cases: [string, string | undefined][] = [
    ['ofer', 'offer'],
    ['offers', 'offer'],
    ['conect', 'connect'],
    ['connnnect', 'connect'],
    ['nmae', 'name'],
    ['Offer', 'offer'],
    ['swap.sise', 'swap.size'],
    ['swpa', 'swap'],
    ['xyz', undefined],
    ['size', undefined],
    ['ab', undefined],
    ['', undefined],
    ['x'.repeat(65), undefined],
  ];
  for (const [word, meant] of cases) t.equal(closestWord(word, WORDS), meant, word);
  t.equal(closestWord('x', []), undefined);
  t.end();
});

t.test('of two words as near the first is taken', (t) => {
  t.equal(closestWord('bat', ['cat', 'hat']), 'cat');
  t.equal(closestWord('bat', ['hat', 'cat']), 'hat');
  t.equal(closestWord('chat', ['cart', 'chats']), 'chats', 'but a nearer one before it');
  t.end();
});
