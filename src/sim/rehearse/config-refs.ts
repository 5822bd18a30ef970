/**
 * ConfigMaps and Secrets that a Pod needs and that are not there: what keeps its containers from being made (Kubernetes
 * documentation, "ConfigMaps", "Secrets"). Pure.
 */
import type { Json, KubeObject } from '#base/objects.ts';
import { copiedSecretType } from '../references.ts';

export interface ConfigSource {
  configMap(key: string): KubeObject | undefined;
  secret(key: string): KubeObject | undefined;
}
interface Reference {
  kind: 'configMap' | 'secret';
  name: string;
  keys: string[];
}

function keysOf(items: Json): string[] {
  return ((items ?? []) as Json[]).map(({ key }) => key);
}

function fromEnvironment(container: Json): Reference[] {
  const references: Reference[] = [];
  const add = (kind: Reference['kind'], source: Json, keys: string[]): void => {
    if (source !== undefined && source.optional !== true) references.push({ kind, name: source.name, keys });
  };
  for (const { configMapRef, secretRef } of (container.envFrom ?? []) as Json[]) {
    add('configMap', configMapRef, []);
    add('secret', secretRef, []);
  }
  for (const { valueFrom } of (container.env ?? []) as Json[]) {
    add('configMap', valueFrom?.configMapKeyRef, [valueFrom?.configMapKeyRef?.key]);
    add('secret', valueFrom?.secretKeyRef, [valueFrom?.secretKeyRef?.key]);
  }
  return references;
}

function fromVolume(volume: Json): Reference[] {
  const sources: Json[] = [volume, ...((volume.projected?.sources ?? []) as Json[])];
  return sources.flatMap((source) => {
    const references: Reference[] = [];
    if (source.configMap !== undefined && source.configMap.optional !== true)
      references.push({ kind: 'configMap', name: source.configMap.name, keys: keysOf(source.configMap.items) });
    if (source.secret !== undefined && source.secret.optional !== true)
      references.push({
        kind: 'secret',
        name: source.secret.secretName ?? source.secret.name,
        keys: keysOf(source.secret.items),
      });
    return references;
  });
}

function referencesOf(spec: Json): Reference[] {
  const { containers = [], initContainers = [], volumes = [] } = spec;
  return [...[...initContainers, ...containers].flatMap(fromEnvironment), ...(volumes as Json[]).flatMap(fromVolume)];
}

/** Names of the Secrets that Pods of this spec need. */
export function secretsNeeded(podSpec: Json): string[] {
  return referencesOf(podSpec)
    .filter(({ kind }) => kind === 'secret')
    .map(({ name }) => name);
}

/** What is missing, as a kubelet says it; undefined when all is there. */
export function missingConfig(pod: KubeObject, source: ConfigSource): string | undefined {
  for (const { kind, name, keys } of referencesOf(pod['spec'])) {
    const found = source[kind](`${pod.metadata.namespace}/${name}`);
    if (found === undefined) return `${kind.toLowerCase()} "${name}" not found`;
    if (found['type'] === copiedSecretType) continue;
    const absent = keys.find((key) => found['data']?.[key] === undefined && found['binaryData']?.[key] === undefined);
    if (absent !== undefined)
      return `couldn't find key ${absent} in ${kind === 'secret' ? 'Secret' : 'ConfigMap'} ${pod.metadata.namespace}/${name}`;
  }
  return undefined;
}
