/**
 * Publishes the authority of the API server's serving certificate as a ClusterTrustBundle, whose name carries a hash of
 * it, and takes those of earlier authorities away (Kubernetes documentation, "Certificates and Certificate Signing
 * Requests", "Cluster trust bundles").
 */
import type { ClusterTrustBundle } from '#api/certificates.v1.ts';
import { fingerprintOf } from '#base/certificates.ts';
import { isReason } from '#base/errors.ts';
import { kinds } from '#base/kinds.ts';
import { keyOf } from '#client/informer.ts';
import { type Controller, type ControllerContext, createQueue, deleteIfPresent } from './runtime.ts';

const signerName = 'kubernetes.io/kube-apiserver-serving';

/** `certificate` is the authority in PEM. */
export function startTrustBundlePublisher(context: ControllerContext, certificate: string): Controller {
  const { client, informers } = context;
  const bundles = informers.informer(kinds.ClusterTrustBundle, { fieldSelector: `spec.signerName=${signerName}` });
  const name = `${signerName.replaceAll('/', ':')}:${fingerprintOf(certificate).slice(0, 24)}`;
  const wanted = {
    apiVersion: 'certificates.k8s.io/v1' as const,
    kind: 'ClusterTrustBundle' as const,
    metadata: { name },
    spec: { signerName, trustBundle: certificate },
  };
  const queue = createQueue(context, 'trust-bundle-publisher', async () => {
    const found = bundles.get(name);
    if (found === undefined)
      await client.create(kinds.ClusterTrustBundle, wanted).catch((error: unknown) => {
        if (!isReason(error, 'AlreadyExists')) throw error;
      });
    else if (found.spec.trustBundle !== certificate)
      await client.update(kinds.ClusterTrustBundle, { ...found, spec: wanted.spec });
    for (const bundle of bundles.list())
      if (bundle.metadata.name !== name) await deleteIfPresent(context, kinds.ClusterTrustBundle, bundle);
    return undefined;
  });
  const enqueue = (bundle: ClusterTrustBundle): void => queue.add(keyOf(bundle));
  bundles.addHandler({ added: enqueue, updated: enqueue, deleted: enqueue });
  queue.add(name);
  return { name: 'trust-bundle-publisher', queues: [queue] };
}
