import t from 'tap';
import { connectInTurn } from '../../peer/connect-in-turn.ts';

const lookup = (): Promise<string[]> => Promise.resolve(['10.0.0.1', 'fd00::1', '10.0.0.2']);

t.test('the addresses of a name are tried in turn until one answers', async (t) => {
  const tried: string[] = [];
  const connect = ({ host, port }: { host: string; port: number }): Promise<string> => {
    tried.push(`${host} ${port}`);
    return host === 'fd00::1' ? Promise.resolve(host) : Promise.reject(new Error(`no ${host}`));
  };
  t.equal(await connectInTurn({ host: 'name', port: 7 }, connect, lookup), 'fd00::1');
  t.same(tried, ['10.0.0.1 7', 'fd00::1 7']);
});

t.test('when none answers the last failure is told', async (t) => {
  const connect = ({ host }: { host: string }): Promise<never> => Promise.reject(new Error(host));
  await t.rejects(connectInTurn({ host: 'name', port: 7 }, connect, lookup), /10\.0\.0\.2/);
  const nobody = (): Promise<string[]> => Promise.resolve([]);
  await t.rejects(connectInTurn({ host: 'name', port: 7 }, connect, nobody), /name has no address/);
});

t.test('at most eight are tried', async (t) => {
  let count = 0;
  const many = (): Promise<string[]> => Promise.resolve(Array.from({ length: 99 }, () => '::1'));
  const connect = (): Promise<never> => {
    count += 1;
    return Promise.reject(new Error('no'));
  };
  await t.rejects(connectInTurn({ host: 'name', port: 7 }, connect, many));
  t.equal(count, 8);
});

t.test('an address is looked up nowhere, nor is one with a scope', async (t) => {
  const never = (): Promise<never> => Promise.reject(new Error('looked up'));
  const connect = ({ host }: { host: string }): Promise<string> => Promise.resolve(host);
  for (const host of ['10.0.0.1', '::1', 'fe80::1%eth0']) {
    t.equal(await connectInTurn({ host, port: 1 }, connect, never), host);
  }
});
