/** apiextensions.k8s.io/v1 and apiregistration.k8s.io/v1: what the API itself is made of. */
import type { CustomResourceDefinition } from '#api/apiextensions.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { kinds } from '#base/kinds.ts';
import { setDefault, setDefaultText } from '../defaults.ts';
import type { KindRecord } from '../kind.ts';
import { column, columns, defineKind, statusSubresource, metadataFields } from '../kind.ts';
import { resetStatus } from '../strategy.ts';
import { validateDefinition, validateDefinitionStatus } from '../validate-definition.ts';
import { validateApiService, validateApiServiceStatus } from '../validate-api-service.ts';

const status = { status: statusSubresource };

/** The versions that are served, and which of them is stored. */
function servedVersions({ spec }: CustomResourceDefinition): string {
  const served = (spec?.versions ?? []).filter((version) => version.served);
  return served
    .map(({ name, storage }) => (storage ? `${name}(storage)` : name))
    .sort()
    .join(',');
}

const isEstablished = ({ status: state }: CustomResourceDefinition): boolean =>
  (state?.conditions ?? []).some(({ type, status: is }) => type === 'Established' && is === 'True');

/** What is stored is at least what is to be. */
function defaultStored(
  status: Draft<NonNullable<CustomResourceDefinition['status']>>,
  { spec }: Draft<CustomResourceDefinition>,
): void {
  if ((status.storedVersions ?? []).length > 0) return;
  const name = spec?.versions?.find(({ storage }) => storage === true)?.name;
  if (name !== undefined) status.storedVersions = [name];
}

const api = ['api-extensions'];
export const apiextensionsKinds: readonly KindRecord[] = [
  defineKind(kinds.CustomResourceDefinition, {
    statusKeeps: metadataFields,
    needsVersion: true,
    // Its own validation says what it must be.
    nameForm: 'any',
    validate: validateDefinition,
    validateStatus: validateDefinitionStatus,
    shortNames: ['crd', 'crds'],
    categories: api,
    subresources: status,
    statusIsPlain: true,
    hasGeneration: true,
    // Its objects go first.
    deletionFinalizer: 'customresourcecleanup.apiextensions.k8s.io',
    columns: [
      { name: 'Name', type: 'string', format: 'name', value: (o) => o.metadata.name },
      column('Scope', (o) => o.spec?.scope),
      column('Versions', servedVersions),
      { name: 'Created At', type: 'date', value: (o) => o.metadata.creationTimestamp },
      column('Group', (o) => o.spec?.group, { wide: true }),
      column('Kind', (o) => o.spec?.names?.kind, { wide: true }),
      column('ShortNames', (o) => (o.spec?.names?.shortNames ?? []).join(','), { wide: true }),
      column('Established', isEstablished, { wide: true, type: 'boolean' }),
    ],
    defaults(o) {
      const spec = (o.spec ??= {});
      const names = (spec.names ??= {});
      if (names.kind) {
        setDefaultText(names, 'singular', names.kind.toLowerCase());
        setDefaultText(names, 'listKind', `${names.kind}List`);
      }
      spec.conversion ??= { strategy: 'None' };
      const service = spec.conversion.webhook?.clientConfig?.service;
      if (service !== undefined) setDefault(service, 'port', 443);
      if (o.status) defaultStored(o.status, o);
    },
    defaultStatus: defaultStored,
    prepareCreate(o) {
      o.status = {
        acceptedNames: { plural: '', kind: '' },
        conditions: [],
        storedVersions: (o.spec?.versions ?? [])
          .filter(({ storage }) => storage === true)
          .slice(0, 1)
          .flatMap(({ name }) => name ?? []),
      };
    },
    prepareUpdate(o, old) {
      resetStatus(o, old);
      // What is to be stored from now on counts as stored.
      const stored = (o.status?.storedVersions ?? []).slice();
      const name = (o.spec?.versions ?? []).find(({ storage }) => storage === true)?.name;
      if (name !== undefined && !stored.includes(name)) stored.push(name);
      if (o.status !== undefined) o.status = { ...o.status, storedVersions: stored };
    },
  }),
];
export const apiregistrationKinds: readonly KindRecord[] = [
  defineKind(kinds.APIService, {
    needsVersion: true,
    categories: api,
    subresources: status,
    statusIsPlain: true,
    nameForm: 'path',
    columns: columns(
      column('Service', (o) => (o.spec?.service ? `${o.spec.service.namespace}/${o.spec.service.name}` : 'Local')),
      column('Available', (o) => {
        const c = (o.status?.conditions ?? []).find((x) => x.type === 'Available');
        return c === undefined ? 'Unknown' : c.status === 'True' ? 'True' : `${c.status} (${c.reason})`;
      }),
    ),
    defaults(o) {
      if (o.spec?.service) setDefault(o.spec.service, 'port', 443);
    },
    validate: validateApiService,
    validateStatus: validateApiServiceStatus,
    prepareCreate(o) {
      if (o.spec?.service) o.status = {};
    },
    prepareUpdate: resetStatus, // one without a Service is local: available from the start
  }),
];
