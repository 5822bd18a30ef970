/**
 * ClusterTrustBundles for the volumes of Pods on this node (Kubernetes documentation, "Projected Volumes",
 * "clusterTrustBundle"). They are followed from the first Pod on that shows one.
 */
import type { ClusterTrustBundle } from '#api/certificates.v1.ts';
import type { ClusterTrustBundleProjection } from '#api/core.v1.ts';
import { pemBlocks, pemText } from '#base/certificates.ts';
import { ApiError } from '#base/errors.ts';
import { kinds } from '#base/kinds.ts';
import { matchesSelectorObject } from '#base/selectors.ts';
import { Informer, type InformerDependencies } from '#client/informer.ts';

export class TrustAnchors {
  readonly #dependencies: InformerDependencies;
  readonly #holders = new Set<string>();
  #bundles: Informer<ClusterTrustBundle> | undefined;
  #tell: (holders: string[]) => void = () => {};

  constructor(dependencies: InformerDependencies) {
    this.#dependencies = dependencies;
  }

  /** The certificates that the source selects, each once, in PEM. Throws where there are none and some must be. */
  async find(source: ClusterTrustBundleProjection, holder: string): Promise<string> {
    this.#holders.add(holder);
    const bundles = this.#follow();
    await bundles.synced;
    const { name, signerName, labelSelector, optional } = source;
    const found =
      name === undefined
        ? bundles
            .list()
            .filter(
              (bundle) =>
                bundle.spec.signerName === signerName && matchesSelectorObject(labelSelector, bundle.metadata.labels),
            )
        : bundles.list().filter((bundle) => bundle.metadata.name === name);
    if (found.length === 0 && optional !== true)
      throw new ApiError(
        'NotFound',
        name === undefined
          ? 'combination of signerName and labelSelector matched zero ClusterTrustBundles'
          : `clustertrustbundle.certificates.k8s.io ${JSON.stringify(name)} not found`,
      );
    const anchors = new Set<string>();
    for (const bundle of found)
      for (const { bytes } of pemBlocks(bundle.spec.trustBundle)) anchors.add(bytes.toString('base64'));
    // Whoever reads them must not rely on their order, which yet is the same for the same ones.
    return [...anchors]
      .sort()
      .map((text) => pemText('CERTIFICATE', Buffer.from(text, 'base64')))
      .join('');
  }

  /** Calls back with the Pods that show bundles when any of them changes. */
  onChange(listener: (holders: string[]) => void): void {
    this.#tell = listener;
  }

  release(holder: string): void {
    this.#holders.delete(holder);
  }

  close(): void {
    void this.#bundles?.stop();
  }

  #follow(): Informer<ClusterTrustBundle> {
    if (this.#bundles !== undefined) return this.#bundles;
    const bundles = new Informer(kinds.ClusterTrustBundle, this.#dependencies);
    this.#bundles = bundles;
    const changed = (): void => {
      if (bundles.hasSynced) this.#tell([...this.#holders]);
    };
    bundles.addHandler({ added: changed, updated: changed, deleted: changed });
    bundles.start();
    return bundles;
  }
}
