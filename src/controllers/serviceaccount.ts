/**
 * What every Namespace gets: a ServiceAccount `default`, and a ConfigMap `kube-root-ca.crt` with the cluster's CA for
 * Pods.
 */
import type { ConfigMap, Namespace, ServiceAccount } from '#api/core.v1.ts';
import { isReason } from '#base/errors.ts';
import { kinds } from '#base/kinds.ts';
import { isEqual } from './equality.ts';
import { type Controller, type ControllerContext, createQueue } from './runtime.ts';

const accountName = 'default';
const rootCaName = 'kube-root-ca.crt';

export interface NamespaceContent {
  namespace: Namespace | undefined;
  account: ServiceAccount | undefined;
  rootCa: ConfigMap | undefined;
}

/** What to make or mend in one Namespace; nothing while it goes away. */
function planNamespaceContent(
  { namespace, account, rootCa }: NamespaceContent,
  certificate: string,
): { createAccount: boolean; createRootCa: boolean; updateRootCa: boolean } {
  const alive = namespace !== undefined && namespace.metadata.deletionTimestamp === undefined;
  return {
    createAccount: alive && account === undefined,
    createRootCa: alive && certificate !== '' && rootCa === undefined,
    updateRootCa:
      alive && certificate !== '' && rootCa !== undefined && !isEqual(rootCa.data, { 'ca.crt': certificate }),
  };
}

/** `certificate` is the CA in PEM; empty publishes none. */
export function startServiceAccountController(context: ControllerContext, certificate: string): Controller {
  const { client, informers } = context;
  const namespaces = informers.informer(kinds.Namespace);
  const accounts = informers.informer(kinds.ServiceAccount);
  const configMaps = informers.informer(kinds.ConfigMap);
  const create = async (run: () => Promise<unknown>): Promise<void> => {
    try {
      await run();
    } catch (error) {
      if (!isReason(error, 'AlreadyExists')) throw error;
    }
  };
  const queue = createQueue(context, 'serviceaccount', async (namespace) => {
    const rootCa = configMaps.get(`${namespace}/${rootCaName}`);
    const plan = planNamespaceContent(
      { namespace: namespaces.get(namespace), account: accounts.get(`${namespace}/${accountName}`), rootCa },
      certificate,
    );
    const data = { 'ca.crt': certificate };
    if (plan.createAccount)
      await create(() =>
        client.create(kinds.ServiceAccount, {
          apiVersion: 'v1',
          kind: 'ServiceAccount',
          metadata: { name: accountName, namespace },
        }),
      );
    if (plan.createRootCa)
      await create(() =>
        client.create(kinds.ConfigMap, {
          apiVersion: 'v1',
          kind: 'ConfigMap',
          metadata: { name: rootCaName, namespace },
          data,
        }),
      );
    if (plan.updateRootCa) await client.update(kinds.ConfigMap, { ...rootCa!, data });
  });
  namespaces.addHandler({ added: (o) => queue.add(o.metadata.name), updated: (o) => queue.add(o.metadata.name) });
  accounts.addHandler({
    deleted: (o) => {
      if (o.metadata.name === accountName) queue.add(o.metadata.namespace);
    },
  });
  configMaps.addHandler({
    updated: (o) => {
      if (o.metadata.name === rootCaName) queue.add(o.metadata.namespace);
    },
    deleted: (o) => {
      if (o.metadata.name === rootCaName) queue.add(o.metadata.namespace);
    },
  });
  return { name: 'serviceaccount', queues: [queue] };
}
