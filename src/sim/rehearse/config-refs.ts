/**
 * ConfigMaps and Secrets that a Pod needs and that are not there: what keeps its containers from being made (Kubernetes
 * documentation, "ConfigMaps", "Secrets"). Pure.
 */
import type {
  ConfigMap,
  ConfigMapKeySelector,
  Container,
  KeyToPath,
  Pod,
  PodSpec,
  Secret,
  SecretKeySelector,
  Volume,
} from '#api/core.v1.ts';
import { startedContainers } from '#kubelet/containers.ts';
import { absentKey, copiedSecretType } from '../references.ts';

export interface ConfigSource {
  configMap(key: string): ConfigMap | undefined;
  secret(key: string): Secret | undefined;
}
interface Reference {
  kind: 'configMap' | 'secret';
  name: string;
  keys: string[];
}

/** What names a ConfigMap or a Secret, and which keys of it. */
interface Source {
  name?: string;
  optional?: boolean;
  items?: KeyToPath[];
}

/** None where nothing is named, or what is named may be missing. */
function reference(kind: Reference['kind'], source: Source | undefined): Reference[] {
  if (source?.name === undefined || source.optional === true) return [];
  return [{ kind, name: source.name, keys: (source.items ?? []).map(({ key }) => key) }];
}

function keyReference(
  kind: Reference['kind'],
  source: ConfigMapKeySelector | SecretKeySelector | undefined,
): Reference[] {
  return reference(kind, source).map((found) => ({ ...found, keys: source === undefined ? [] : [source.key] }));
}

function fromEnvironment({ envFrom = [], env = [] }: Container): Reference[] {
  return [
    ...envFrom.flatMap(({ configMapRef, secretRef }) => [
      ...reference('configMap', configMapRef),
      ...reference('secret', secretRef),
    ]),
    ...env.flatMap(({ valueFrom }) => [
      ...keyReference('configMap', valueFrom?.configMapKeyRef),
      ...keyReference('secret', valueFrom?.secretKeyRef),
    ]),
  ];
}

function fromVolume({ configMap, secret, projected }: Volume): Reference[] {
  const { secretName, ...named } = secret ?? {};
  return [
    ...reference('configMap', configMap),
    ...reference('secret', secretName === undefined ? undefined : { ...named, name: secretName }),
    ...(projected?.sources ?? []).flatMap((source) => [
      ...reference('configMap', source.configMap),
      ...reference('secret', source.secret),
    ]),
  ];
}

function referencesOf(spec: PodSpec): Reference[] {
  return [...startedContainers({ spec }).flatMap(fromEnvironment), ...(spec.volumes ?? []).flatMap(fromVolume)];
}

/** Names of the Secrets that Pods of this spec need. */
export function secretsNeeded(podSpec: PodSpec): string[] {
  return referencesOf(podSpec)
    .filter(({ kind }) => kind === 'secret')
    .map(({ name }) => name);
}

/** What is missing, as a kubelet says it; undefined when all is there. */
export function missingConfig(pod: Pod, source: ConfigSource): string | undefined {
  for (const { kind, name, keys } of referencesOf(pod.spec)) {
    const found = source[kind](`${pod.metadata.namespace}/${name}`);
    if (found === undefined) return `${kind.toLowerCase()} "${name}" not found`;
    if (found.kind === 'Secret' && found.type === copiedSecretType) continue;
    const absent = absentKey(found, keys);
    if (absent !== undefined)
      return `couldn't find key ${absent} in ${kind === 'secret' ? 'Secret' : 'ConfigMap'} ${pod.metadata.namespace}/${name}`;
  }
  return undefined;
}
