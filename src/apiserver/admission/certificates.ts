/**
 * Who may vouch for a signer (ClusterTrustBundles), answer for it (PodCertificateRequests), and ask for a Pod
 * (Kubernetes documentation, "Certificates and Certificate Signing Requests"; upstream: ClusterTrustBundleAttest,
 * NodeRestriction).
 */
import type { PodCertificateRequest } from '#api/certificates.v1.ts';
import type { Pod } from '#api/core.v1.ts';
import { ApiError } from '#base/errors.ts';
import { kinds } from '#base/kinds.ts';
import { isOf } from '#base/objects.ts';
import { FieldErrors } from '#schema/field-errors.ts';
import { sameJson } from '#schema/validate-values.ts';
import { isAllowed } from '../authz/authorizer-chain.ts';
import { nodeNameOf } from '../authz/node.ts';
import type { RequestContext } from '../context.ts';
import { lookUp } from '../lookup.ts';
import { forbiddenBy } from '../object-errors.ts';
import type { AdmissionAttributes } from './attributes.ts';
import { mayFor } from './guards.ts';

/** Whoever writes a bundle for a signer must be allowed to vouch for that signer. */
export async function admitTrustBundle(context: RequestContext, attributes: AdmissionAttributes): Promise<void> {
  const { object, old, operation } = attributes;
  if (operation === 'DELETE' || !isOf(kinds.ClusterTrustBundle, object)) return;
  const { signerName = '' } = object.spec;
  if (signerName === '') return;
  const before = old !== undefined && isOf(kinds.ClusterTrustBundle, old) ? old : undefined;
  const { labels, annotations } = object.metadata;
  // Finalizers and owners may change for the sake of collection.
  if (
    before !== undefined &&
    sameJson([object.spec, labels, annotations], [before.spec, before.metadata.labels, before.metadata.annotations])
  )
    return;
  if (!(await mayFor(context, 'attest', signerName)))
    throw forbiddenBy(
      context,
      object.metadata.name,
      `user not permitted to attest for signerName ${JSON.stringify(signerName)}`,
    );
}

/** How far the beginning of a Pod's certificate may be from now. */
const beginningMsMax = 300_000;

/** Whoever answers for a signer must be allowed to sign for it; what is issued is issued now. */
export async function admitPodCertificate(context: RequestContext, attributes: AdmissionAttributes): Promise<void> {
  const { object, old, operation, subresource } = attributes;
  if (!isOf(kinds.PodCertificateRequest, object)) return;
  if (operation === 'CREATE') return admitNodesRequest(context, object);
  if (operation !== 'UPDATE' || subresource !== 'status') return;
  const before = old !== undefined && isOf(kinds.PodCertificateRequest, old) ? old : object;
  if (sameJson(object.status ?? {}, before.status ?? {})) return;
  const errors = new FieldErrors();
  const { notBefore } = object.status ?? {};
  if (notBefore && Math.abs(Date.parse(notBefore) - context.server.clock.now()) > beginningMsMax)
    errors.invalid('status.notBefore', notBefore, "must be set to within 5 minutes of kube-apiserver's current time");
  const { signerName } = before.spec;
  if (!(await mayFor(context, 'sign', signerName)))
    errors.forbidden(
      'spec.signerName',
      `User ${JSON.stringify(context.user.name)} is not permitted to "sign" for signer ${JSON.stringify(signerName)}`,
    );
  errors.throwIfAny(context.kind.group, context.kind.kind, object.metadata.name);
}

const mountsCertificateOf = (pod: Pod, signer: string): boolean =>
  (pod.spec.volumes ?? []).some((volume) =>
    (volume.projected?.sources ?? []).some(({ podCertificate }) => podCertificate?.signerName === signer),
  );

/** A node asks for Pods that it runs, as the accounts they have, of the signers they name. */
async function admitNodesRequest(context: RequestContext, request: PodCertificateRequest): Promise<void> {
  const node = nodeNameOf(context.user);
  if (node === undefined) return;
  const { server } = context;
  const { spec } = request;
  const { namespace, name } = request.metadata;
  const quote = (text: string): string => JSON.stringify(text);
  const refuse = (text: string): ApiError => forbiddenBy(context, name, text);
  /** What a reader that lags behind may show: asking again may succeed. */
  const late = (text: string): ApiError => new ApiError('InternalError', text);
  const podName = quote(`${namespace}/${spec.podName}`);
  if (spec.nodeName !== node)
    throw refuse(
      `PodCertificateRequest.Spec.NodeName=${quote(spec.nodeName)}, which is not the requesting node ${quote(node)}`,
    );
  const self = await lookUp(server, kinds.Node, node);
  if (self?.metadata.uid !== spec.nodeUID)
    throw late(
      `PodCertificateRequest for pod ${podName} names node UID ${quote(spec.nodeUID)}, inconsistent with the running node (${quote(self?.metadata.uid ?? '')})`,
    );
  const pod = await lookUp(server, kinds.Pod, spec.podName, namespace);
  if (pod?.metadata.uid !== spec.podUID)
    throw late(
      `PodCertificateRequest for pod ${podName} contains pod UID (${quote(spec.podUID)}) which differs from running pod ${quote(pod?.metadata.uid ?? '')}`,
    );
  if (pod.spec.nodeName !== node)
    throw refuse(`pod ${podName} is not running on node ${quote(node)} named in the PodCertificateRequest`);
  if (pod.metadata.annotations?.['kubernetes.io/config.mirror'] !== undefined)
    throw refuse(`pod ${podName} is a mirror pod`);
  const account = pod.spec.serviceAccountName ?? '';
  if (spec.serviceAccountName !== account)
    throw refuse(
      `PodCertificateRequest for pod ${podName} contains serviceAccountName (${quote(spec.serviceAccountName)}) that differs from running pod (${quote(account)})`,
    );
  const uid = (await lookUp(server, kinds.ServiceAccount, account, namespace))?.metadata.uid ?? '';
  if (spec.serviceAccountUID !== uid)
    throw late(
      `PodCertificateRequest for pod ${podName} names service account UID ${quote(spec.serviceAccountUID)}, which differs from the running service account (${quote(uid)})`,
    );
  if (mountsCertificateOf(pod, spec.signerName)) return;
  const isGranted = await isAllowed(server, {
    user: context.user,
    verb: 'request-serviceaccounts-podcertificate-signer',
    isResource: true,
    group: 'certificates.k8s.io',
    version: 'v1',
    resource: spec.signerName.replaceAll('/', ':'),
    subresource: '',
    namespace,
    name: spec.serviceAccountName,
    path: '',
  });
  if (!isGranted)
    throw refuse(
      `pod ${podName} does not mount a podCertificate projected volume for signer ${quote(spec.signerName)}`,
    );
}
