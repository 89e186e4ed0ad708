import t from 'tap';
import { TicketTable, type Ticket } from '../../direct/tickets.ts';

const ticketOf = (holder: string, exportId = 'e1'): Ticket => ({
  holder,
  exportId,
  secret: Buffer.alloc(32, 7),
  consumerNonce: Buffer.alloc(32, 8),
  transport: 'tls',
});

t.test('a ticket is taken once, and only by its name', async (t) => {
  const table = new TicketTable();
  const ticket = ticketOf('a');
  table.add('t1', ticket, 0);
  t.equal(table.take('t2', 1), undefined);
  t.equal(table.take('t1', 1), ticket);
  t.equal(ticket.secret[0], 7, 'its secret is still needed');
  t.equal(table.take('t1', 1), undefined);
});

t.test('a ticket is good for 15 seconds and its secret is zeroed then', async (t) => {
  const table = new TicketTable();
  const [early, late] = [ticketOf('a'), ticketOf('a')];
  table.add('early', early, 1000);
  table.add('late', late, 1000);
  t.equal(table.take('early', 15_999), early);
  t.equal(table.take('late', 16_000), undefined);
  t.same(late.secret, Buffer.alloc(32));
});

t.test('16 are open for a holder, whoever else has some', async (t) => {
  const table = new TicketTable();
  for (let index = 0; index < 16; index += 1) {
    t.equal(table.hasRoom('a', index), true);
    table.add(`a${index}`, ticketOf('a'), index);
  }
  t.equal(table.hasRoom('a', 20), false);
  t.equal(table.hasRoom('b', 20), true);
  table.take('a3', 20);
  t.equal(table.hasRoom('a', 20), true, 'a used one makes room');
  table.add('again', ticketOf('a'), 20);
  t.equal(table.hasRoom('a', 14_999), false);
  t.equal(table.hasRoom('a', 15_000), true, 'an old one makes room');
});

t.test('the tickets of an export go with it', async (t) => {
  const table = new TicketTable();
  const ticket = ticketOf('a', 'gone');
  table.add('t1', ticket, 0);
  table.add('t2', ticketOf('a', 'stays'), 0);
  table.dropExport('gone');
  t.equal(table.take('t1', 1), undefined);
  t.same(ticket.secret, Buffer.alloc(32));
  t.ok(table.take('t2', 1));
});
