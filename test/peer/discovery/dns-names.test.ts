import t from 'tap';
import type { Sighting } from '../../../peer/discovery/discovery-machine.ts';
import { addressesOfName, DnsNames, type Resolver } from '../../../peer/discovery/dns-names.ts';
import { until } from '../../helpers/peer-node.ts';

const none = (): Promise<never> => Promise.reject(new Error('ENOTFOUND'));

t.test('a name is looked up as a service and as itself', async (t) => {
  const asked: string[] = [];
  const resolver: Resolver = {
    services: (name) => {
      asked.push(`SRV ${name}`);
      return Promise.resolve([
        { name: 'one.example', port: 7001 },
        { name: 'gone.example', port: 7002 },
      ]);
    },
    addresses: (name) => {
      asked.push(name);
      if (name === 'gone.example') return none();
      return Promise.resolve(name === 'one.example' ? ['10.0.0.1', 'fd00::1'] : ['10.0.0.9']);
    },
  };
  t.same(await addressesOfName('pool.example', resolver), [
    '10.0.0.1:7001',
    '[fd00::1]:7001',
    '10.0.0.9:7070',
  ]);
  t.same(asked, ['SRV _memcloud._tcp.pool.example', 'one.example', 'gone.example', 'pool.example']);
});

t.test('a name that stands for nobody is nobody, one for too many is cut', async (t) => {
  t.same(await addressesOfName('x', { services: none, addresses: none }), []);
  const addresses = Array.from({ length: 100 }, (_, index) => `10.0.0.${index}`);
  const many = await addressesOfName('x', {
    services: none,
    addresses: () => Promise.resolve(addresses),
  });
  t.equal(many.length, 32);
});

t.test('what is found is told without an id: the handshake will say who it is', async (t) => {
  const sightings: Sighting[] = [];
  const names = new DnsNames(['a.example', 'b.example'], (each) => sightings.push(each), {
    services: none,
    addresses: (name) => Promise.resolve([name === 'a.example' ? '10.0.0.1' : '10.0.0.2']),
  });
  await until(() => sightings.length === 2);
  t.match(sightings, [
    { nodeId: undefined, address: '10.0.0.1:7070', origin: 'a.example', source: 'dns' },
    { nodeId: undefined, address: '10.0.0.2:7070', origin: 'b.example', source: 'dns' },
  ]);
  names.close();
});
