/** What of a Pod's volumes is right and hides files: two of one path, or one below another. */
import type { Volume, VolumeProjection } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';

type Warn = (text: string) => void;

/** A path in a volume, and which source of several it is from. */
interface VirtualFile {
  path: string;
  source: string;
}

const filesOf = (items: readonly { path?: string }[] | undefined, source = ''): VirtualFile[] =>
  (items ?? []).map(({ path = '' }) => ({ path: path.replace(/\/+$/, ''), source }));
const shown = ({ path, source }: VirtualFile): string =>
  source === '' ? JSON.stringify(path) : `${JSON.stringify(path)} (${source})`;

const overlap = (a: string, b: string): boolean =>
  a !== '' && b !== '' && (`${a}/`.startsWith(`${b}/`) || `${b}/`.startsWith(`${a}/`));

function overlapsOf(files: readonly VirtualFile[]): string[] {
  return files.flatMap((file, i) =>
    files
      .slice(0, i)
      .filter((other) => overlap(file.path, other.path))
      .map((other) => `${shown(file)} with ${shown(other)}`),
  );
}

export function warnOfOverlaps(volume: Draft<Volume>, warn: Warn): void {
  const { configMap, secret, downwardAPI, projected } = volume;
  const name = JSON.stringify(volume.name ?? '');
  const tell = (what: string, files: readonly VirtualFile[]): void => {
    for (const text of overlapsOf(files)) warn(`volume ${name} (${what}): overlapping paths: ${text}`);
  };
  if (configMap) tell(`ConfigMap ${JSON.stringify(configMap.name ?? '')}`, filesOf(configMap.items));
  if (secret) tell(`Secret ${JSON.stringify(secret.secretName ?? '')}`, filesOf(secret.items));
  if (downwardAPI) tell('DownwardAPI', filesOf(downwardAPI.items));
  if (!projected) return;
  for (const source of projected.sources ?? [])
    if (Object.keys(source).length === 0) warn(`volume ${name} (Projected) has no sources provided`);
  tell('Projected', (projected.sources ?? []).flatMap(projectedFiles));
}

function projectedFiles(source: Draft<VolumeProjection>): VirtualFile[] {
  const { configMap, secret, downwardAPI, serviceAccountToken: token, clusterTrustBundle: bundle } = source;
  if (configMap?.items) return filesOf(configMap.items, `ConfigMap ${JSON.stringify(configMap.name ?? '')}`);
  if (secret?.items) return filesOf(secret.items, `Secret ${JSON.stringify(secret.name ?? '')}`);
  if (downwardAPI?.items) return filesOf(downwardAPI.items, 'DownwardAPI');
  if (token) return filesOf([token], 'ServiceAccountToken');
  if (bundle) return filesOf([bundle], `ClusterTrustBundle ${JSON.stringify(bundle.name ?? bundle.signerName ?? '')}`);
  const { certificateChainPath, keyPath, credentialBundlePath } = source.podCertificate ?? {};
  return [
    ...(certificateChainPath ? filesOf([{ path: certificateChainPath }], 'PodCertificate chain') : []),
    ...(keyPath ? filesOf([{ path: keyPath }], 'PodCertificate key') : []),
    ...(credentialBundlePath ? filesOf([{ path: credentialBundlePath }], 'PodCertificate credential bundle') : []),
  ];
}
