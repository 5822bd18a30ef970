/**
 * A machine's first node follows which program the machine is to run, starts what takes it (`take-program.ts`), and
 * says on its Node which one runs and what came of the last order.
 */
import type { Node } from '#api/core.v1.ts';
import { kinds } from '#base/kinds.ts';
import { machineAnnotations } from '#base/node-identity.ts';
import { messageOf } from '#base/thrown.ts';
import type { Client } from '#client/client.ts';
import type { Informer } from '#client/informer.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock } from '#os/clock.ts';
import { startCommand } from '../launch.ts';
import { programLookMs } from '../limits.ts';
import type { Paths } from '../paths.ts';
import { isOpen, ownState, readOrder, type Order } from './orders.ts';
import { isUpgrading } from './switch-program.ts';

interface FollowProgramOptions {
  paths: Paths;
  nodes: Informer<Node>;
  /** Of the kubelet. */
  client: Client;
  name: string;
  clock: Clock;
  log: Logger;
}

export function followProgram(options: FollowProgramOptions): Disposable {
  const { paths, nodes, client, name, clock, log } = options;
  let timer: { cancel(): void } | undefined;
  let isClosed = false;
  let isTaking = false;

  const obey = (order: Order): void => {
    isTaking = true;
    log.info('this machine is to run another program', { ...order });
    const words = [order.id, order.attempt, ...(order.isFinal ? ['--finish'] : [])];
    const { exit } = startCommand(paths, 'take-program', words);
    void exit
      .then(({ code }) => log.info('the order was followed', { code }))
      .catch((error: unknown) => log.error('take-program', { error }))
      .finally(() => {
        isTaking = false;
        lookSoon();
      });
  };
  const look = async (): Promise<void> => {
    timer = undefined;
    try {
      const node = nodes.get(name);
      const annotations = node?.metadata.annotations ?? {};
      const state = ownState(paths);
      const order = readOrder(annotations[machineAnnotations.programOrder]);
      // Whoever took it may have ended amid it: another one goes on.
      if (order !== undefined && isOpen(order, state) && !isTaking && !isUpgrading(paths)) obey(order);
      const text = JSON.stringify(state);
      if (node !== undefined && annotations[machineAnnotations.programState] !== text)
        await client.patch(
          kinds.Node,
          { name },
          { merge: { metadata: { annotations: { [machineAnnotations.programState]: text } } } },
        );
    } catch (error) {
      log.debug('which program runs is not told yet', { error: messageOf(error) });
    }
    lookSoon();
  };
  const lookSoon = (): void => {
    if (isClosed) return;
    timer ??= clock.setTimer(programLookMs, () => void look(), { background: true });
  };
  lookSoon();
  return {
    [Symbol.dispose]() {
      isClosed = true;
      timer?.cancel();
    },
  };
}
