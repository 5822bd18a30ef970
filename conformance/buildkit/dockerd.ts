/**
 * Stands where BuildKit's suite starts a dockerd: a socket of its own that leads to the engine that is judged. The
 * suite starts one for each case and gives it `--host unix://…`; `TIPHYS_SOCKET` says where the engine listens.
 */
import { connect, createServer } from 'node:net';

const host = process.argv[process.argv.indexOf('--host') + 1] ?? '';
const engineSocket = process.env['TIPHYS_SOCKET'] ?? '';

const server = createServer({ allowHalfOpen: true }, (client) => {
  const engine = connect({ path: engineSocket, allowHalfOpen: true });
  client.pipe(engine).pipe(client);
  client.on('error', () => engine.destroy());
  engine.on('error', () => client.destroy());
});
server.listen(host.replace(/^unix:\/\//, ''));
process.on('SIGINT', () => process.exit(0));
// A case that ran out of time has not ended what it started.
const parent = process.ppid;
setInterval(() => {
  if (process.ppid !== parent) process.exit(0);
}, 1000);
