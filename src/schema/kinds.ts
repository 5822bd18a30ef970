/** Every built-in kind, in the order in which discovery lists the groups. */
import { appsKinds } from './groups/apps.ts';
import { autoscalingKinds } from './groups/autoscaling.ts';
import { batchKinds } from './groups/batch.ts';
import { coreKinds } from './groups/core.ts';
import { metricsKinds } from './groups/metrics.ts';
import { networkingKinds } from './groups/networking.ts';
import {
  admissionregistrationKinds,
  apiextensionsKinds,
  apiregistrationKinds,
  authenticationKinds,
  authorizationKinds,
  certificatesKinds,
  coordinationKinds,
  discoveryKinds,
  eventsKinds,
  flowcontrolKinds,
  nodeKinds,
  resourceKinds,
  schedulingKinds,
  storageKinds,
} from './groups/others.ts';
import { policyKinds } from './groups/policy.ts';
import { rbacKinds } from './groups/rbac.ts';
import type { KindRecord } from './kind.ts';

export const builtInKinds: readonly KindRecord[] = [
  ...coreKinds,
  ...apiregistrationKinds,
  ...appsKinds,
  ...eventsKinds,
  ...authenticationKinds,
  ...authorizationKinds,
  ...autoscalingKinds,
  ...batchKinds,
  ...certificatesKinds,
  ...networkingKinds,
  ...policyKinds,
  ...rbacKinds,
  ...storageKinds,
  ...admissionregistrationKinds,
  ...apiextensionsKinds,
  ...schedulingKinds,
  ...coordinationKinds,
  ...nodeKinds,
  ...discoveryKinds,
  ...resourceKinds,
  ...flowcontrolKinds,
  ...metricsKinds,
];
