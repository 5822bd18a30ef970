/**
 * A Linux node's files for its Pods: volumes with what they are made of, container files, and what is left when a Pod
 * has gone. Secrets lie on a tmpfs.
 */
import type { TokenRequest } from '#api/authentication.v1.ts';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { isReason } from '#base/errors.ts';
import type { Client } from '#client/client.ts';
import { kinds } from '#base/kinds.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock, Random } from '#os/clock.ts';
import type { Mounts } from '#os/mount.ts';
import { prepareContainerFiles } from './container-files.ts';
import type { DnsSettings, PodFiles } from './doors.ts';
import { measureStorage } from './pod-storage.ts';
import { secretsBytesMax, terminationMessageBytesMax } from './limits.ts';
import {
  podDir,
  podLogsDir,
  podSecretsDir,
  seccompDir,
  terminationMessagePath,
  type KubeletPaths,
} from './pod-paths.ts';
import { allocatableOf, type NodeFacts } from './node-status.ts';
import { podCertificate } from './pod-certificates.ts';
import type { ObjectCache } from './referenced-objects.ts';
import type { TrustAnchors } from './trust-anchors.ts';
import type { VolumeSources } from './volume-sources.ts';
import { mountVolumes, removePodFiles } from './volumes.ts';

export interface PodFilesOptions {
  client: Client;
  objects: ObjectCache;
  anchors: TrustAnchors;
  mounts: Mounts;
  paths: KubeletPaths;
  clock: Clock;
  random: Random;
  log: Logger;
  facts: NodeFacts;
  dns: DnsSettings;
}

export function createPodFiles(options: PodFilesOptions): PodFiles {
  const { objects, anchors, mounts, paths, clock, log, facts, dns } = options;
  const nodeAllocatable = allocatableOf(facts);
  const isMounted = async (path: string): Promise<boolean> =>
    (await mounts.listBelow(path)).some((entry) => entry.target === path);
  const sourcesFor = (uid: string): VolumeSources => ({
    ...apiSources(options, uid),
    mountTmpfs: (path, sizeBytes) =>
      mounts.mountTmpfs(path, { ...(sizeBytes === undefined ? {} : { sizeBytes }), mode: 0o1777 }),
    unmount: (path) => mounts.unmount(path),
    isMounted,
  });
  return {
    async open() {
      for (const path of [paths.podsDir, paths.secretsDir, paths.logsDir, seccompDir(paths)])
        await mkdir(path, { recursive: true, mode: 0o700 });
      if (await isMounted(paths.secretsDir)) return;
      await mounts
        .mountTmpfs(paths.secretsDir, { sizeBytes: secretsBytesMax, mode: 0o700 })
        .catch((error: unknown) => log.warn('secrets are kept on disk: no tmpfs', { error }));
    },
    async mountVolumes(pod, podIp) {
      const uid = pod.metadata.uid;
      for (const path of [podDir(paths, uid), podSecretsDir(paths, uid), podLogsDir(paths, pod)])
        await mkdir(path, { recursive: true, mode: 0o750 });
      const downward = { nodeAllocatable, podIp, hostIp: facts.hostIp };
      return mountVolumes(pod, { paths, sources: sourcesFor(uid), downward, nowMs: clock.now() });
    },
    objectsFor: ({ metadata }) => apiSources(options, metadata.uid),
    prepareContainer: (input) => prepareContainerFiles({ ...input, paths, dns }),
    async readTerminationMessage(uid, container, restartCount) {
      // A container that was never made has no file.
      const file = await readFile(terminationMessagePath(paths, uid, container, restartCount)).catch(() =>
        Buffer.alloc(0),
      );
      return file.subarray(0, terminationMessageBytesMax).toString('utf8');
    },
    storage: (pod, volumes) => measureStorage(paths, pod, volumes),
    async removePod(pod) {
      const uid = pod.metadata.uid;
      objects.release(uid);
      anchors.release(uid);
      await removePodFiles(paths, uid, sourcesFor(uid));
      await rm(podLogsDir(paths, pod), { recursive: true, force: true });
    },
    podsWithFiles: () => readdir(paths.podsDir).catch(() => [] as string[]),
    onChange(listener) {
      objects.onChange(listener);
      anchors.onChange(listener);
    },
    close() {
      objects.close();
      anchors.close();
    },
  };
}

function orUndefined(error: unknown): undefined {
  if (isReason(error, 'NotFound')) return undefined;
  throw error;
}

/** What the Pod with this UID reads of the API; ConfigMaps, Secrets and trust bundles are followed while
 * it needs them. */
function apiSources(
  options: PodFilesOptions,
  uid: string,
): Omit<VolumeSources, 'mountTmpfs' | 'unmount' | 'isMounted'> {
  const { client, objects, anchors, clock, random, facts } = options;
  return {
    configMap: (namespace, name) => objects.configMap(namespace, name, uid),
    secret: (namespace, name) => objects.secret(namespace, name, uid),
    claim: (namespace, name) => client.get(kinds.PersistentVolumeClaim, name, namespace).catch(orUndefined),
    persistentVolume: (name) => client.get(kinds.PersistentVolume, name).catch(orUndefined),
    trustAnchors: (source) => anchors.find(source, uid),
    certificate: (pod, source, file) =>
      podCertificate({ client, clock, random, nodeName: facts.name }, { pod, source, file }),
    async token(pod, audience, expirationSeconds) {
      const { namespace, name } = pod.metadata;
      const account = pod.spec.serviceAccountName ?? 'default';
      const { status } = await client.raw<TokenRequest>(
        'POST',
        `/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`,
        {
          apiVersion: 'authentication.k8s.io/v1',
          kind: 'TokenRequest',
          spec: {
            ...(audience === undefined || audience === '' ? {} : { audiences: [audience] }),
            expirationSeconds,
            boundObjectRef: { kind: 'Pod', apiVersion: 'v1', name, uid },
          },
        },
      );
      return { token: status?.token ?? '', expiresAtMs: Date.parse(status?.expirationTimestamp ?? '') };
    },
  };
}
