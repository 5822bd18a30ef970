/**
 * Admission: the mutating and the validating plug-ins as two visible lists, run in order (Kubernetes, "Admission
 * Control in Kubernetes"); then what users configure, which the server's own writes pass by.
 */
import type { KubeObject } from '#base/objects.ts';
import type { RequestContext } from '../context.ts';
import type { Admission, AdmissionAttributes } from './attributes.ts';
import { admitPodCertificate, admitTrustBundle } from './certificates.ts';
import {
  admitCertificates,
  admitClaimResize,
  admitGlobalDefault,
  admitNodeRestriction,
  admitRbacEscalation,
} from './guards.ts';
import { admitLimitBounds, admitLimitDefaults } from './limit-ranger.ts';
import { mutateByPolicies } from './mutating-policies.ts';
import { admitPodSecurity } from './pod-security.ts';
import { admitRuntimeClass } from './runtime-class.ts';
import { admitByPolicies } from './validating-policies.ts';
import { admitMutatingWebhooks, admitValidatingWebhooks } from './webhooks.ts';
import {
  admitCertificateRequester,
  admitDefaultStorageClass,
  admitDefaultTolerations,
  admitNamespaceLifecycle,
  admitPriority,
  admitNodeTaint,
  admitServiceAccount,
  admitStorageProtection,
} from './built-in.ts';

const mutating: readonly Admission[] = [
  admitNamespaceLifecycle,
  admitLimitDefaults,
  admitServiceAccount,
  admitNodeTaint,
  admitDefaultTolerations,
  admitPriority,
  admitRuntimeClass,
  admitDefaultStorageClass,
  admitStorageProtection,
  admitCertificateRequester,
];
const mutatingConfigured: readonly Admission[] = [mutateByPolicies, admitMutatingWebhooks];
const validating: readonly Admission[] = [
  admitNodeRestriction,
  admitLimitBounds,
  admitPodSecurity,
  admitRbacEscalation,
  admitClaimResize,
  admitGlobalDefault,
  admitCertificates,
  admitTrustBundle,
  admitPodCertificate,
];
const validatingConfigured: readonly Admission[] = [admitByPolicies, admitValidatingWebhooks];

async function admitBy(
  plugins: readonly Admission[],
  context: RequestContext,
  attributes: AdmissionAttributes,
): Promise<void> {
  for (const admit of plugins) {
    const waits = admit(context, attributes);
    if (waits !== undefined) await waits;
  }
}

export async function admitMutating(context: RequestContext, attributes: AdmissionAttributes): Promise<void> {
  await admitBy(mutating, context, attributes);
  if (context.isOwn !== true) await admitBy(mutatingConfigured, context, attributes);
}

export async function admitValidating(context: RequestContext, attributes: AdmissionAttributes): Promise<void> {
  await admitBy(validating, context, attributes);
  if (context.isOwn !== true) await admitBy(validatingConfigured, context, attributes);
}

/** Who connects to a container, a node or a Service is judged by webhooks and policies; what for is in `object`. */
export async function admitConnection(context: RequestContext, object: KubeObject): Promise<void> {
  const { subresource } = context.info;
  const attributes: AdmissionAttributes = { operation: 'CONNECT', object, old: undefined, subresource, dryRun: false };
  await admitMutatingWebhooks(context, attributes);
  await admitByPolicies(context, attributes);
  await admitValidatingWebhooks(context, attributes);
}
