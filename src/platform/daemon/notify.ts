/** sd_notify(3): tells systemd, where it started the engine, how far it is. */
import { openUnixDatagram } from '#os/unix-datagram.linux.ts';

export function tellSystemd(state: string): void {
  const path = process.env['NOTIFY_SOCKET'] ?? '';
  if (path === '') return;
  try {
    const socket = openUnixDatagram(path);
    socket.send(Buffer.from(`${state}\n`));
    socket.close();
  } catch {
    /* nobody listens: that is whoever's who set the variable */
  }
}
