import t from 'tap';
import { formatPorts, parseListenRange } from '../../common/listen-range.ts';

t.test('an address with one port, or with the ports to try in turn', (t) => {
  const cases: [string, string, number, number][] = [
    ['0.0.0.0:7070', '0.0.0.0', 7070, 7070],
    ['0.0.0.0:7070-7079', '0.0.0.0', 7070, 7079],
    [':7070-7070', '', 7070, 7070],
    ['[::]:1-100', '::', 1, 100],
    ['[fe80::1%eth-0]:7070-7071', 'fe80::1%eth-0', 7070, 7071],
    ['my-host:7070', 'my-host', 7070, 7070],
    ['my-host:65436-65535', 'my-host', 65436, 65535],
    [':0', '', 0, 0],
  ];
  for (const [text, host, port, lastPort] of cases) {
    t.same(parseListenRange(text), { host, port, lastPort }, text);
  }
  t.end();
});

t.test('no address, no ports, backwards, from 0, too many', (t) => {
  const wrong = ['7070', ':', ':7070-', ':-7070', ':0-9', ':7079-7070', ':1-101', ':65530-65536'];
  for (const text of [...wrong, ':1-2-3', 'a b:1-2', ':1- 2', '']) {
    t.throws(() => parseListenRange(text), { code: 'ERR_USAGE_ADDRESS' }, text);
  }
  t.end();
});

t.test('ports as people write them', (t) => {
  t.equal(formatPorts({ port: 7070, lastPort: 7070 }), '7070');
  t.equal(formatPorts({ port: 7070, lastPort: 7079 }), '7070-7079');
  t.end();
});
