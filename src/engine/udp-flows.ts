/**
 * A flow of UDP that began before its port was published goes past the rules, and one that began with the last
 * container goes to that one's address, for as long as packets come. So the kernel forgets the flows of a port when it
 * is published and when it is taken back.
 */
import type { PublishedRecord } from './container-record.ts';
import type { EngineContext } from './context.ts';

export async function forgetUdpFlows(
  context: EngineContext,
  published: readonly Pick<PublishedRecord, 'protocol' | 'hostPort'>[],
): Promise<void> {
  const ports = published.filter((port) => port.protocol === 'udp').map((port) => port.hostPort);
  if (ports.length === 0) return;
  // Without connection tracking's own messages in the kernel the flows end by their own time.
  await context.os.netlink
    .run([{ steps: [{ op: 'forgetUdpFlows', ports }] }])
    .catch((error: unknown) => context.log.debug('flows of UDP', { error }));
}
