/**
 * Takes PodCertificateRequests away a quarter of an hour after they were made: by then the node has what it asked for,
 * or has asked again (API reference, `certificates.k8s.io/v1` PodCertificateRequest).
 */
import type { PodCertificateRequest } from '#api/certificates.v1.ts';
import { kinds } from '#base/kinds.ts';
import { keyOf } from '#client/informer.ts';
import { podCertificateRequestMsMax } from './limits.ts';
import { type Controller, type ControllerContext, createQueue, deleteIfPresent } from './runtime.ts';

export function startPodCertificateCleaner(context: ControllerContext): Controller {
  const requests = context.informers.informer(kinds.PodCertificateRequest);
  const queue = createQueue(context, 'pod-certificate-cleaner', async (key) => {
    const request = requests.get(key);
    if (request === undefined) return undefined;
    const madeMs = Date.parse(request.metadata.creationTimestamp ?? '');
    const leftMs = madeMs + podCertificateRequestMsMax - context.clock.now();
    if (leftMs > 0) return { requeueAfterMs: leftMs };
    await deleteIfPresent(context, kinds.PodCertificateRequest, request);
    return undefined;
  });
  requests.addHandler({ added: (request: PodCertificateRequest) => queue.add(keyOf(request)) });
  return { name: 'pod-certificate-cleaner', queues: [queue] };
}
