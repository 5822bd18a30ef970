/** discovery.k8s.io/v1. */
import { kinds } from '#base/kinds.ts';
import { setDefault, setDefaultText } from '../defaults.ts';
import type { KindRecord } from '../kind.ts';
import { column, columns, defineKind } from '../kind.ts';
import { validateEndpointSlice } from '../validate-endpoints.ts';

function sliceList(items: string[], max = 3): string {
  return items.length === 0
    ? '<unset>'
    : items.length > max
      ? `${items.slice(0, max).join(',')} + ${items.length - max} more...`
      : items.join(',');
}

export const discoveryKinds: readonly KindRecord[] = [
  defineKind(kinds.EndpointSlice, {
    validate: validateEndpointSlice,
    columns: columns(
      column('AddressType', (o) => o.addressType),
      column('Ports', (o) => sliceList((o.ports ?? []).map((p) => String(p.port ?? '*')))),
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
