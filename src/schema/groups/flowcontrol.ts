/** flowcontrol.apiserver.k8s.io/v1. */
import type { FlowSchema, PriorityLevelConfiguration, QueuingConfiguration } from '#api/flowcontrol.v1.ts';
import { kinds } from '#base/kinds.ts';
import { setDefault } from '../defaults.ts';
import type { KindRecord } from '../kind.ts';
import { ageColumn, column, columns, defineKind, statusSubresource, metadataFields } from '../kind.ts';
import { resetStatus } from '../strategy.ts';

const status = { status: statusSubresource };

const shownLimit = (o: PriorityLevelConfiguration, field: keyof QueuingConfiguration): number | string =>
  o.spec?.limited?.limitResponse?.queuing?.[field] ?? '<none>';
const flowSchemaColumns = columns<FlowSchema>(
  column('PriorityLevel', (o) => o.spec?.priorityLevelConfiguration?.name),
  column('MatchingPrecedence', (o) => o.spec?.matchingPrecedence, { type: 'integer' }),
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
      if (o.spec) setDefault(o.spec, 'matchingPrecedence', 1000);
    },
    prepareUpdate: resetStatus,
  }),
  defineKind(kinds.PriorityLevelConfiguration, {
    statusKeeps: metadataFields,
    subresources: status,
    hasGeneration: true,
    columns: priorityLevelColumns,
    prepareUpdate: resetStatus,
  }),
];
