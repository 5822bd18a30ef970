/** flowcontrol.apiserver.k8s.io/v1. */
import type { FlowSchema, PriorityLevelConfiguration, QueuingConfiguration } from '#api/flowcontrol.v1.ts';
import { kinds } from '#base/kinds.ts';
import { setDefault } from '../defaults.ts';
import type { KindRecord } from '../kind.ts';
import { ageColumn, column, columns, defineKind, statusSubresource, metadataFields } from '../kind.ts';
import { resetStatus } from '../strategy.ts';
import {
  validateFlowSchema,
  validateFlowSchemaStatus,
  validatePriorityLevel,
  validatePriorityLevelStatus,
} from '../validate-flow-control.ts';

const status = { status: statusSubresource };

function dropStatus(object: { status?: object }): void {
  object.status = {};
}

const shownLimit = (o: PriorityLevelConfiguration, field: keyof QueuingConfiguration): number | string =>
  o.spec?.limited?.limitResponse?.queuing?.[field] ?? '<none>';
const flowSchemaColumns = columns<FlowSchema>(
  column('PriorityLevel', (o) => o.spec?.priorityLevelConfiguration?.name),
  column('MatchingPrecedence', (o) => o.spec?.matchingPrecedence ?? 0),
  column('DistinguisherMethod', (o) => o.spec?.distinguisherMethod?.type ?? '<none>'),
  ageColumn,
  column('MissingPL', (o) => (o.status?.conditions ?? []).find((c) => c.type === 'Dangling')?.status ?? '?'),
);
const priorityLevelColumns = columns<PriorityLevelConfiguration>(
  column('Type', (o) => o.spec?.type),
  column(
    'NominalConcurrencyShares',
    (o) => o.spec?.limited?.nominalConcurrencyShares ?? o.spec?.exempt?.nominalConcurrencyShares ?? '<none>',
  ),
  column('Queues', (o) => shownLimit(o, 'queues')),
  column('HandSize', (o) => shownLimit(o, 'handSize')),
  column('QueueLengthLimit', (o) => shownLimit(o, 'queueLengthLimit')),
);

export const flowcontrolKinds: readonly KindRecord[] = [
  defineKind(kinds.FlowSchema, {
    statusKeeps: metadataFields,
    subresources: status,
    hasGeneration: true,
    columns: flowSchemaColumns,
    defaults(o) {
      // Zero is as good as none: a Go number without a pointer.
      if (o.spec) o.spec.matchingPrecedence ||= 1000;
    },
    prepareCreate: dropStatus,
    prepareUpdate: resetStatus,
    validate: validateFlowSchema,
    validateStatus: validateFlowSchemaStatus,
  }),
  defineKind(kinds.PriorityLevelConfiguration, {
    statusKeeps: metadataFields,
    subresources: status,
    hasGeneration: true,
    columns: priorityLevelColumns,
    defaults({ spec }) {
      for (const shared of [spec?.exempt, spec?.limited])
        if (shared !== undefined) setDefault(shared, 'lendablePercent', 0);
      if (spec?.exempt) setDefault(spec.exempt, 'nominalConcurrencyShares', 0);
      if (spec?.limited) setDefault(spec.limited, 'nominalConcurrencyShares', 30);
      const queuing = spec?.limited?.limitResponse?.queuing;
      if (queuing === undefined) return;
      queuing.handSize ||= 8;
      queuing.queues ||= 64;
      queuing.queueLengthLimit ||= 50;
    },
    prepareCreate: dropStatus,
    prepareUpdate: resetStatus,
    validate: validatePriorityLevel,
    validateStatus: validatePriorityLevelStatus,
  }),
];
