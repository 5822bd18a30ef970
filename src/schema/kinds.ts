/** Every built-in kind, in the order in which discovery lists the groups. */
import { appsKinds } from './groups/apps.ts';
import { autoscalingKinds } from './groups/autoscaling.ts';
import { batchKinds } from './groups/batch.ts';
import { coreKinds } from './groups/core.ts';
import { metricsKinds } from './groups/metrics.ts';
import { networkingKinds } from './groups/networking.ts';
import { admissionregistrationKinds } from './groups/admissionregistration.ts';
import { certificatesKinds } from './groups/certificates.ts';
import { coordinationKinds } from './groups/coordination.ts';
import { discoveryKinds } from './groups/discovery.ts';
import { eventsKinds } from './groups/events.ts';
import { apiextensionsKinds, apiregistrationKinds } from './groups/extensions.ts';
import { flowcontrolKinds } from './groups/flowcontrol.ts';
import { resourceKinds } from './groups/resource.ts';
import { authenticationKinds, authorizationKinds } from './groups/reviews.ts';
import { nodeKinds, schedulingKinds } from './groups/scheduling.ts';
import { storageKinds } from './groups/storage.ts';
import { storagemigrationKinds } from './groups/storagemigration.ts';
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
  ...storagemigrationKinds,
  ...metricsKinds,
];
