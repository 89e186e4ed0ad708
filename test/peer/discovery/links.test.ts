import type { NetworkInterfaceInfo } from 'node:os';
import t from 'tap';
import { chooseLinks } from '../../../peer/discovery/links.ts';

function v4(address: string, internal = false): NetworkInterfaceInfo {
  const cidr = `${address}/24`;
  return { address, netmask: '255.255.255.0', family: 'IPv4', mac: '', internal, cidr };
}

function v6(address: string, internal = false): NetworkInterfaceInfo {
  const cidr = `${address}/64`;
  return { address, netmask: 'x', family: 'IPv6', mac: '', internal, cidr, scopeid: 2 };
}

const MACHINE = {
  lo: [v4('127.0.0.1', true), v6('::1', true)],
  eth0: [v4('192.168.1.5'), v4('192.168.9.5'), v6('fe80::5'), v6('2001:db8::5')],
  'wlan-guest': [v4('10.9.0.5')],
  docker0: [v4('172.17.0.1')],
  'br-0123456789ab': [v4('172.18.0.1')],
  veth1234: [v6('fe80::99')],
  br0: [v4('192.168.7.1')],
  wg0: [v4('10.66.0.1')],
};

const facts = (name: string) => ({
  index: name.length,
  multicasts: name !== 'wg0' && name !== 'lo',
});

function names(listenHost: string, wanted?: string[]): string[] {
  return chooseLinks(MACHINE, facts, { wanted, listenHost }).map(
    ({ name, family, address }) => `${name} ${family} ${address}`,
  );
}

t.test('all interfaces that carry multicast, but loopback and the bridges of containers', (t) => {
  const v4Only = ['eth0 IPv4 192.168.1.5', 'wlan-guest IPv4 10.9.0.5', 'br0 IPv4 192.168.7.1'];
  t.same(names('0.0.0.0'), v4Only, 'who listens on IPv4 is announced there');
  for (const host of ['', '::']) {
    t.same(names(host), [v4Only[0], 'eth0 IPv6 fe80::5', ...v4Only.slice(1)], 'both families');
  }
  t.end();
});

t.test('who listens on one address is announced on its link only', (t) => {
  t.same(names('192.168.9.5'), ['eth0 IPv4 192.168.9.5']);
  t.same(names('fe80::5%eth0'), ['eth0 IPv6 fe80::5']);
  t.same(names('2001:db8::5'), [], 'adverts come from a link-local address, where nobody listens');
  t.same(names('127.0.0.1'), []);
  t.end();
});

t.test('interfaces that an operator names are used, whatever they are', (t) => {
  t.same(names('0.0.0.0', ['docker0', 'wg0', 'none']), [
    'docker0 IPv4 172.17.0.1',
    'wg0 IPv4 10.66.0.1',
  ]);
  t.same(names('127.0.0.1', ['lo']), ['lo IPv4 127.0.0.1']);
  t.end();
});

t.test('a link covers its subnets and its scope, and nothing else', (t) => {
  const links = chooseLinks(MACHINE, facts, { wanted: ['eth0'], listenHost: '' });
  const [ipv4, ipv6] = links;
  for (const [address, isThere] of [
    ['192.168.1.77', true],
    ['192.168.9.77', true],
    ['192.168.2.77', false],
    ['8.8.8.8', false],
    ['not an address', false],
    ['', false],
  ] as const) {
    t.equal(ipv4?.covers(address), isThere, address);
  }
  for (const [address, isThere] of [
    ['fe80::1%eth0', true],
    ['fe80::1%eth1', false],
    ['2001:db8::9', true],
    ['2001:db9::9', false],
  ] as const) {
    t.equal(ipv6?.covers(address), isThere, address);
  }
  t.end();
});

t.test('a card that was taken out and put back is another link', (t) => {
  const choice = { wanted: undefined, listenHost: '0.0.0.0' };
  const keyAt = (index: number) =>
    chooseLinks({ eth0: MACHINE.eth0 }, () => ({ index, multicasts: true }), choice)[0]?.key;
  t.equal(keyAt(2), keyAt(2));
  t.not(keyAt(2), keyAt(3));
  t.same(
    chooseLinks(MACHINE, () => undefined, choice),
    [],
    'gone while we looked',
  );
  t.end();
});
