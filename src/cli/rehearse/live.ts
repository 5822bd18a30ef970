/**
 * A live cluster's state as manifests and nodes: only reads, and of Secrets only their names. What the kubeconfig's
 * user may not read is left out and said.
 */
import type { Pod, PodSpec, Secret } from '#api/core.v1.ts';
import { isReason } from '#base/errors.ts';
import type { Manifest } from '#api/manifest.ts';
import { apiVersionOf, isOf, type KindRef, type KubeList, type KubeObject } from '#base/objects.ts';
import type { Client } from '#client/client.ts';
import { keyOf } from '#client/informer.ts';
import { kindOf, kinds } from '#base/kinds.ts';
import { pathOf } from '#client/rest-client.ts';
import { isNamed, type NamedObject } from '#sim/manifests.ts';
import { copiedSecretType } from '#sim/references.ts';
import { secretsNeeded } from '#sim/rehearse/config-refs.ts';
import { isServerObject } from '#sim/rehearse/servers.ts';

import { cleaned, simulatedNode, takenByNode } from './clean.ts';
import type { ManifestSet } from './manifests.ts';

const copied: readonly KindRef[] = [
  kinds.Namespace,
  kinds.CustomResourceDefinition,
  kinds.PriorityClass,
  kinds.RuntimeClass,
  kinds.StorageClass,
  kinds.IngressClass,
  kinds.LimitRange,
  kinds.ResourceQuota,
  kinds.ServiceAccount,
  kinds.ConfigMap,
  kinds.PersistentVolume,
  kinds.PersistentVolumeClaim,
  kinds.Service,
  kinds.Ingress,
  kinds.PodDisruptionBudget,
  kinds.Deployment,
  kinds.StatefulSet,
  kinds.DaemonSet,
  kinds.ReplicaSet,
  kinds.ReplicationController,
  kinds.Job,
  kinds.CronJob,
  kinds.HorizontalPodAutoscaler,
];

/** Throws the `ApiError` of whatever cannot be asked at all. */
export async function readCluster(client: Client, origin: string): Promise<ManifestSet> {
  const set: ManifestSet = { manifests: [], nodes: [], notes: [] };
  const list = async (kind: KindRef): Promise<NamedObject[]> => {
    try {
      const { items } = await client.list(kind);
      return items.map((item) => ({ ...item, apiVersion: apiVersionOf(kind), kind: kind.kind })).filter(isNamed);
    } catch (error) {
      if (!isReason(error, 'Forbidden', 'NotFound', 'MethodNotAllowed')) throw error;
      set.notes.push(`${kind.kind} objects were not copied: ${error.message}`);
      return [];
    }
  };
  // Without these there is nothing to rehearse: they fail the whole.
  const nodes = (await client.list(kinds.Node)).items;
  const pods = (await client.list(kinds.Pod)).items.map((pod): Pod => ({
    ...pod,
    apiVersion: 'v1',
    kind: 'Pod',
  }));
  const objects: NamedObject[] = [];
  for (const kind of copied) objects.push(...(await list(kind)));
  objects.push(...((await secretNames(client)) ?? secretsTakenForGranted([...objects, ...pods], set.notes)));
  for (const definition of objects.filter((object) => isOf(kinds.CustomResourceDefinition, object))) {
    const { group, names, scope, versions } = definition.spec;
    const stored = versions.find(({ storage }) => storage);
    if (stored === undefined) continue;
    objects.push(...(await list(kindOf(`${group}/${stored.name}`, names.plural, names.kind, scope === 'Namespaced'))));
  }
  for (const object of [...objects, ...pods]) {
    const result = cleaned(object);
    if ('manifest' in result) set.manifests.push({ object: result.manifest, origin, lenient: true });
    else if (result.leftOut !== undefined) set.notes.push(result.leftOut);
  }
  const taken = takenByNode(pods);
  set.nodes = nodes.map((node) => simulatedNode(node, taken.get(node.metadata.name)));
  return set;
}

const copiedSecret = (name: string, namespace: string): NamedObject & Manifest<Secret> => ({
  apiVersion: 'v1',
  kind: 'Secret',
  metadata: { name, namespace },
  type: copiedSecretType,
});

const notCopied = /^(sh\.helm\.release\.v1\.|bootstrap-token-)/;

/**
 * Secrets by name, with nothing in them: what they hold never leaves the cluster. Undefined when they may not be
 * listed.
 */
async function secretNames(client: Client): Promise<NamedObject[] | undefined> {
  try {
    const answer = await client.raw<KubeList>('GET', pathOf(kinds.Secret), undefined, {
      accept: 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1',
    });
    return answer.items.flatMap(({ metadata: { name, namespace } }) =>
      name === undefined || namespace === undefined || notCopied.test(name) ? [] : [copiedSecret(name, namespace)],
    );
  } catch (error) {
    if (!isReason(error, 'Forbidden', 'NotFound', 'NotAcceptable')) throw error;
    return undefined;
  }
}

/** The specification of Pods: of the object itself, or of those that it makes. */
function podSpecOf(object: KubeObject): PodSpec | undefined {
  if (isOf(kinds.Pod, object)) return object.spec;
  if (isOf(kinds.CronJob, object)) return object.spec.jobTemplate.spec.template.spec;
  return isOf(kinds.Job, object) || isServerObject(object) ? object.spec.template?.spec : undefined;
}

/** Where Secrets may not be listed, those that Pods need are taken to be there. */
function secretsTakenForGranted(objects: readonly NamedObject[], notes: string[]): NamedObject[] {
  notes.push('Secrets may not be listed: all that Pods need are taken to be there');
  const secrets = objects.flatMap((object) => {
    const spec = podSpecOf(object);
    const { namespace = '' } = object.metadata;
    return spec === undefined ? [] : secretsNeeded(spec).map((name) => copiedSecret(name, namespace));
  });
  return [...new Map(secrets.map((secret) => [keyOf(secret), secret])).values()];
}
