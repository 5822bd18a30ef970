/** What a Pod's volumes are made of. */
import type {
  ClusterTrustBundleProjection,
  PersistentVolume,
  PersistentVolumeClaim,
  Pod,
  PodCertificateProjection,
} from '#api/core.v1.ts';
import type { EnvContext, ReferencedObjects } from './env.ts';
import type { CredentialBundle } from './pod-certificates.ts';
import type { KubeletPaths } from './pod-paths.ts';

export interface VolumeSources extends ReferencedObjects {
  claim(namespace: string, name: string): Promise<PersistentVolumeClaim | undefined>;
  persistentVolume(name: string): Promise<PersistentVolume | undefined>;
  /** A token bound to the Pod: the text and when it ends (ms since 1970). */
  token(
    pod: Pod,
    audience: string | undefined,
    expirationSeconds: number,
  ): Promise<{ token: string; expiresAtMs: number }>;
  /** Certificates of authorities in PEM. Throws where there are none and the source is not optional. */
  trustAnchors(source: ClusterTrustBundleProjection): Promise<string>;
  /** The Pod's own certificate; what is known of it lies in `file`. Throws while there is none. */
  certificate(pod: Pod, source: PodCertificateProjection, file: string): Promise<CredentialBundle>;
  mountTmpfs(path: string, sizeBytes: number | undefined): Promise<void>;
  unmount(path: string): Promise<void>;
  isMounted(path: string): Promise<boolean>;
}

export interface VolumeContext {
  paths: KubeletPaths;
  sources: VolumeSources;
  downward: Pick<EnvContext, 'nodeAllocatable' | 'podIp' | 'hostIp'>;
  nowMs: number;
}
