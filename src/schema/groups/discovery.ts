/** discovery.k8s.io/v1. */
import type { EndpointSlice } from '#api/discovery.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { kinds } from '#base/kinds.ts';
import { setDefault, setDefaultText } from '../defaults.ts';
import type { KindRecord } from '../kind.ts';
import { column, columns, defineKind } from '../kind.ts';
import { validateEndpointSlice } from '../validate-endpoints.ts';
import { sameJson } from '../validate-values.ts';

function sliceList(items: string[], max = 3): string {
  const shown = items.slice(0, max).join(',');
  if (items.length > max) return `${shown} + ${items.length - max} more...`;
  return shown === '' ? '<unset>' : shown;
}

/** The topology of the first version is read, and written no more. */
function dropTopology({ endpoints }: Draft<EndpointSlice>): void {
  for (const endpoint of endpoints ?? []) delete endpoint.deprecatedTopology;
}

export const discoveryKinds: readonly KindRecord[] = [
  defineKind(kinds.EndpointSlice, {
    validate: validateEndpointSlice,
    prepareCreate: dropTopology,
    prepareUpdate(o, old) {
      // Labels say which Service it is of; and what is dropped was a change, too.
      if (!sameJson(o.endpoints, old.endpoints) || !sameJson(o.metadata?.labels ?? {}, old.metadata.labels ?? {}))
        (o.metadata ??= {}).generation = (old.metadata.generation ?? 0) + 1;
      if (!sameJson(o.endpoints, old.endpoints)) dropTopology(o);
    },
    warn(o, old, warn) {
      if (old === undefined && o.addressType === 'FQDN') warn('spec.addressType: FQDN endpoints are deprecated');
    },
    columns: columns(
      column('AddressType', (o) => o.addressType),
      column('Ports', (o) => sliceList((o.ports ?? []).map((p) => String(p.port ?? p.name ?? '*')))),
      column('Endpoints', (o) => sliceList((o.endpoints ?? []).flatMap((e) => e.addresses ?? []))),
    ),
    defaults(o) {
      for (const port of o.ports ?? []) {
        setDefault(port, 'name', '');
        setDefaultText(port, 'protocol', 'TCP');
      }
      o.endpoints ??= [];
    },
    hasGeneration: true,
  }),
];
