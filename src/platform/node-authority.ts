/**
 * A node follows which authorities the cluster has, and says on its Node of which one its certificates are: who rotates
 * authorities ends the former ones when no node needs them any more.
 */
import type { ConfigMap, Node } from '#api/core.v1.ts';
import { kinds } from '#base/kinds.ts';
import { clusterConfig, machineAnnotations } from '#base/node-identity.ts';
import { messageOf } from '#base/thrown.ts';
import type { Client } from '#client/client.ts';
import type { Informer, InformerFactory } from '#client/informer.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock } from '#os/clock.ts';
import { authorityHashesOf } from './join-token.ts';
import { authorityLookMs } from './limits.ts';
import type { NodeIdentity } from './node-identity.ts';

export interface FollowAuthorityOptions {
  /** Of the network part, which may read Nodes and what the cluster says of itself. */
  informers: InformerFactory;
  nodes: Informer<Node>;
  /** Of the kubelet. */
  client: Client;
  identity: NodeIdentity;
  name: string;
  clock: Clock;
  log: Logger;
}

export function followAuthority(options: FollowAuthorityOptions): Disposable {
  const { informers, nodes, client, identity, name, clock, log } = options;
  let timer: { cancel(): void } | undefined;
  let isClosed = false;
  /** Undefined while not all certificates are of the authority that signs. */
  const current = (): string | undefined => (identity.isCurrent() ? authorityHashesOf(identity.ca())[0] : undefined);
  const look = async (): Promise<void> => {
    timer = undefined;
    try {
      const wanted = current();
      const node = nodes.get(name);
      if (wanted !== undefined && node?.metadata.annotations?.[machineAnnotations.authority] === wanted) return;
      if (wanted !== undefined && node !== undefined) {
        const merge = { metadata: { annotations: { [machineAnnotations.authority]: wanted } } };
        await client.patch(kinds.Node, { name }, { merge });
      }
    } catch (error) {
      log.debug('the authority of the certificates is not told yet', { error: messageOf(error) });
    }
    lookSoon();
  };
  const lookSoon = (): void => {
    if (isClosed) return;
    timer ??= clock.setTimer(authorityLookMs, () => void look(), { background: true });
  };
  const learn = ({ data }: ConfigMap): void => {
    const said = data?.['authority'];
    try {
      if (said !== undefined) identity.learnAuthority(said);
    } catch (error) {
      log.error('what the cluster says of its authorities cannot be read', { error });
    }
    lookSoon();
  };
  informers
    .informer(kinds.ConfigMap, {
      namespace: clusterConfig.namespace,
      fieldSelector: `metadata.name=${clusterConfig.name}`,
    })
    .addHandler({ added: learn, updated: learn });
  return {
    [Symbol.dispose]() {
      isClosed = true;
      timer?.cancel();
    },
  };
}
