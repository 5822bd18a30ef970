/**
 * What ConfigMaps, Secrets, tokens, certificates and the downward API become as files of a volume (Kubernetes
 * documentation, "Projected Volumes", "Downward API").
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type {
  ConfigMapProjection,
  Container,
  DownwardAPIProjection,
  Pod,
  PodCertificateProjection,
  SecretProjection,
  ServiceAccountTokenProjection,
  Volume,
  VolumeProjection,
} from '#api/core.v1.ts';
import { ApiError } from '#base/errors.ts';
import type { ProjectedFile } from './atomic-writer.ts';
import { fieldValue, resourceFieldValue } from './env.ts';
import { readNote, writeNote } from './note-file.ts';
import type { CredentialBundle } from './pod-certificates.ts';
import type { VolumeContext } from './volume-sources.ts';

interface ProjectedSource {
  plugin: string;
  secret: boolean;
  sources: VolumeProjection[];
  defaultMode: number;
}

/** ConfigMap, Secret, downward API and projected volumes as one list of projected sources. */
export function projectedSources(volume: Volume): ProjectedSource | undefined {
  const mode = (source: { defaultMode?: number }): number => source.defaultMode ?? 0o644;
  if (volume.configMap !== undefined)
    return {
      plugin: 'kubernetes.io~configmap',
      secret: false,
      sources: [{ configMap: volume.configMap }],
      defaultMode: mode(volume.configMap),
    };
  if (volume.secret !== undefined)
    return {
      plugin: 'kubernetes.io~secret',
      secret: true,
      sources: [{ secret: { ...volume.secret, name: volume.secret.secretName ?? '' } }],
      defaultMode: mode(volume.secret),
    };
  if (volume.downwardAPI !== undefined)
    return {
      plugin: 'kubernetes.io~downward-api',
      secret: false,
      sources: [{ downwardAPI: volume.downwardAPI }],
      defaultMode: mode(volume.downwardAPI),
    };
  if (volume.projected !== undefined)
    return {
      plugin: 'kubernetes.io~projected',
      secret: true,
      sources: volume.projected.sources ?? [],
      defaultMode: mode(volume.projected),
    };
  return undefined;
}

export async function projectFiles(
  pod: Pod,
  { sources, defaultMode }: { sources: VolumeProjection[]; defaultMode: number },
  directory: string,
  context: VolumeContext,
): Promise<ProjectedFile[]> {
  const files: ProjectedFile[] = [];
  for (const [index, source] of sources.entries()) {
    if (source.configMap !== undefined)
      files.push(...(await configFiles(pod, { what: 'configmap', source: source.configMap, defaultMode }, context)));
    else if (source.secret !== undefined)
      files.push(...(await configFiles(pod, { what: 'secret', source: source.secret, defaultMode }, context)));
    else if (source.downwardAPI !== undefined)
      files.push(...downwardFiles(pod, source.downwardAPI, defaultMode, context));
    else if (source.serviceAccountToken !== undefined)
      files.push(await tokenFile(pod, source.serviceAccountToken, { defaultMode, directory }, context));
    else if (source.clusterTrustBundle !== undefined) {
      const content = Buffer.from(await context.sources.trustAnchors(source.clusterTrustBundle));
      files.push({ path: safeRelative(source.clusterTrustBundle.path), content, ...ownerOf(pod, defaultMode) });
    } else if (source.podCertificate !== undefined) {
      const note = `${directory}.certificate-${index}.json`;
      const bundle = await context.sources.certificate(pod, source.podCertificate, note);
      files.push(...certificateFiles(source.podCertificate, bundle, ownerOf(pod, defaultMode)));
    } else
      throw new ApiError(
        'BadRequest',
        `projected sources of this kind are not supported by this node: ${Object.keys(source).join(', ') || 'none'}`,
      );
  }
  return files;
}

interface ConfigSource {
  what: 'configmap' | 'secret';
  source: ConfigMapProjection | SecretProjection;
  defaultMode: number;
}

async function configFiles(
  pod: Pod,
  { what, source, defaultMode }: ConfigSource,
  context: VolumeContext,
): Promise<ProjectedFile[]> {
  const namespace = pod.metadata.namespace;
  const object =
    what === 'secret'
      ? await context.sources.secret(namespace, source.name ?? '')
      : await context.sources.configMap(namespace, source.name ?? '');
  if (object === undefined) {
    if (source.optional === true) return [];
    throw new ApiError('NotFound', `${what} "${source.name}" not found`);
  }
  const content = new Map<string, Buffer>();
  for (const [key, value] of Object.entries(object.data ?? {}))
    content.set(key, Buffer.from(value, what === 'secret' ? 'base64' : 'utf8'));
  for (const [key, value] of Object.entries('binaryData' in object ? (object.binaryData ?? {}) : {}))
    content.set(key, Buffer.from(value, 'base64'));
  if (source.items === undefined || source.items.length === 0)
    return [...content].map(([path, data]) => ({ path, content: data, mode: defaultMode }));
  const files: ProjectedFile[] = [];
  for (const item of source.items) {
    const data = content.get(item.key);
    if (data === undefined) {
      if (source.optional === true) continue;
      throw new ApiError(
        'NotFound',
        `references non-existent ${what === 'secret' ? 'secret' : 'config'} key: ${item.key}`,
      );
    }
    files.push({ path: safeRelative(item.path), content: data, mode: item.mode ?? defaultMode });
  }
  return files;
}

function downwardFiles(
  pod: Pod,
  source: DownwardAPIProjection,
  defaultMode: number,
  context: VolumeContext,
): ProjectedFile[] {
  return (source.items ?? []).map((item) => {
    const value =
      item.fieldRef !== undefined
        ? fieldValue(pod, item.fieldRef.fieldPath, context.downward.podIp, context.downward.hostIp)
        : resourceFieldValue(
            { pod, nodeAllocatable: context.downward.nodeAllocatable },
            item.resourceFieldRef ?? { resource: '' },
            undefined,
          );
    return { path: safeRelative(item.path), content: Buffer.from(value), mode: item.mode ?? defaultMode };
  });
}

interface TokenNote {
  expiresAtMs: number;
  issuedAtMs: number;
  podUid: string;
}

/** A token file; a new token only when four fifths of the old one's life are over, or it is older than a day. */
async function tokenFile(
  pod: Pod,
  source: ServiceAccountTokenProjection,
  { defaultMode, directory }: { defaultMode: number; directory: string },
  context: VolumeContext,
): Promise<ProjectedFile> {
  const path = safeRelative(source.path);
  const notePath = `${directory}.${path.replaceAll('/', '_')}.json`;
  const how = ownerOf(pod, defaultMode);
  const note = await readNote<TokenNote>(notePath);
  const ageMs = context.nowMs - (note?.issuedAtMs ?? 0);
  if (note !== undefined && ageMs < 0.8 * (note.expiresAtMs - note.issuedAtMs) && ageMs < 86_400_000) {
    // Where it is not to be read, another is asked for.
    const content = await readFile(join(directory, path)).catch(() => undefined);
    if (content !== undefined) return { path, content, ...how };
  }
  const made = await context.sources.token(pod, source.audience, source.expirationSeconds ?? 3600);
  const { expiresAtMs } = made;
  await writeNote<TokenNote>(notePath, { expiresAtMs, issuedAtMs: context.nowMs, podUid: pod.metadata.uid });
  return { path, content: Buffer.from(made.token), ...how };
}

function certificateFiles(
  source: PodCertificateProjection,
  { keyPem, chainPem }: CredentialBundle,
  how: Pick<ProjectedFile, 'mode' | 'uid'>,
): ProjectedFile[] {
  const contents: [string | undefined, string][] = [
    [source.credentialBundlePath, keyPem + chainPem],
    [source.keyPath, keyPem],
    [source.certificateChainPath, chainPem],
  ];
  return contents.flatMap(([path, text]) =>
    path ? [{ path: safeRelative(path), content: Buffer.from(text), ...how }] : [],
  );
}

/** What one user alone may read, where the Pod has one user, or a group that is given its volumes. */
function ownerOf(pod: Pod, defaultMode: number): Pick<ProjectedFile, 'mode' | 'uid'> {
  const uid = onlyUserOf(pod);
  const mode = uid !== undefined || pod.spec.securityContext?.fsGroup !== undefined ? 0o600 : defaultMode;
  return { mode, ...(uid === undefined ? {} : { uid }) };
}

/** The user as which every container of the Pod runs, where the Pod says so for each of them. */
function onlyUserOf(pod: Pod): number | undefined {
  const containers: Container[] = [...(pod.spec.initContainers ?? []), ...(pod.spec.containers ?? [])];
  const users = new Set(
    containers.map((container) => container.securityContext?.runAsUser ?? pod.spec.securityContext?.runAsUser),
  );
  return users.size === 1 ? [...users][0] : undefined;
}

/** Refuses paths that leave the volume; the API server has refused them before, a node does not rely on it. */
function safeRelative(path: string): string {
  if (path.startsWith('/') || path.split('/').includes('..') || path === '')
    throw new ApiError('BadRequest', `invalid path: ${path}`);
  return path;
}
