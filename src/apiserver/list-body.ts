/**
 * The body of a list. A small one is one buffer. A large one is made in pieces as the connection takes them: a list of
 * fifty megabytes asked for eight times at once costs eight pieces and the references to what is stored, not eight
 * lists.
 */
import { apiVersionOf } from '#base/objects.ts';
import type { KubeList, KubeObject } from '#base/objects.ts';
import { formatYaml } from '#base/yaml.ts';
import type { KindRecord } from '#schema/kind.ts';
import type { StoredValue } from '#store/store.ts';
import type { RequestContext } from './context.ts';
import { listPieceBytesMax, listWholeBytesMax } from './limits.ts';
import type { Negotiated } from './negotiate.ts';
import { encodeListPieces } from './protobuf.ts';
import { includeObject, viewAs } from './respond.ts';
import { isShownAsStored } from './stored-objects.ts';
import { makeTable, partialMetadata, tableRow } from './table.ts';

type Body = Uint8Array | AsyncIterable<Uint8Array>;

/** The list of what is stored, in the form and encoding that were asked for. */
export function listBody(
  context: RequestContext,
  values: readonly StoredValue[],
  metadata: KubeList['metadata'],
  wanted: Negotiated,
): Body {
  const { kind, server } = context;
  const view = (stored: StoredValue): KubeObject => viewAs(context, kind, stored);
  const head = { kind: kind.listKind, apiVersion: apiVersionOf(kind), metadata };
  if (wanted.form === 'object' && wanted.encoding === 'protobuf')
    return wholeOrPieces(encodeListPieces(kind, values, view, metadata));
  if (wanted.form === 'object' && wanted.encoding === 'json' && isShownAsStored(kind))
    return storedList(context, kind, values, metadata);
  if (wanted.form === 'table') {
    const include = includeObject(context);
    const now = server.clock.now();
    const { rows: _rows, ...table } = makeTable(kind, [], { metadata, include, now, version: wanted.version });
    const make = (stored: StoredValue): object => tableRow(kind, view(stored), include, server.clock.now());
    return itemsBody({ head: table, field: 'rows', values, make }, wanted);
  }
  if (wanted.form === 'partial') {
    const partial = { ...head, kind: 'PartialObjectMetadataList', apiVersion: `meta.k8s.io/${wanted.version}` };
    const make = (stored: StoredValue): object => partialMetadata(view(stored), wanted.version);
    return itemsBody({ head: partial, field: 'items', values, make }, wanted);
  }
  return itemsBody({ head, field: 'items', values, make: view }, wanted);
}

/** A list made of the stored bytes, without parsing any. */
function storedList(
  context: RequestContext,
  kind: KindRecord,
  values: readonly StoredValue[],
  metadata: unknown,
): Body {
  const { objects } = context.server;
  const head = Buffer.from(
    `{"kind":${JSON.stringify(kind.listKind)},"apiVersion":${JSON.stringify(apiVersionOf(kind))},"metadata":${JSON.stringify(metadata)},"items":[`,
  );
  let size = head.length + 3;
  for (const stored of values) size += objects.size(stored) + 1;
  const pieces = function* (pieceBytes: number): Generator<Uint8Array> {
    let out = Buffer.allocUnsafe(Math.max(pieceBytes, head.length + 3));
    let at = head.copy(out);
    for (let i = 0; i < values.length; i++) {
      const room = objects.size(values[i]!) + 4;
      if (at + room > out.length) {
        yield out.subarray(0, at);
        out = Buffer.allocUnsafe(Math.max(pieceBytes, room));
        at = 0;
      }
      if (i > 0) out[at++] = 44;
      at = objects.write(values[i]!, out, at);
    }
    at += out.write(']}\n', at, 'latin1');
    yield out.subarray(0, at);
  };
  if (size <= listWholeBytesMax) return pieces(size).next().value as Uint8Array;
  return asAsync(pieces(listPieceBytesMax));
}

/** A list whose items are made one by one. */
interface ItemsBody {
  head: object;
  /** Where the items are: `items`, `rows`. */
  field: string;
  values: readonly StoredValue[];
  make(stored: StoredValue): object;
}

function itemsBody(list: ItemsBody, wanted: Negotiated): Body {
  return wholeOrPieces(wanted.encoding === 'yaml' ? yamlItems(list) : jsonItems(list));
}

function* jsonItems({ head, field, values, make }: ItemsBody): Generator<Uint8Array> {
  let text = `${JSON.stringify(head).slice(0, -1)},${JSON.stringify(field)}:[`;
  for (let i = 0; i < values.length; i++) {
    text += `${i > 0 ? ',' : ''}${JSON.stringify(make(values[i]!))}`;
    if (text.length < listPieceBytesMax) continue;
    yield Buffer.from(text);
    text = '';
  }
  yield Buffer.from(`${text}]}\n`);
}

function* yamlItems({ head, field, values, make }: ItemsBody): Generator<Uint8Array> {
  let text = `${formatYaml(head)}${field}:${values.length === 0 ? ' []' : ''}\n`;
  for (const stored of values) {
    text += formatYaml([make(stored)]);
    if (text.length < listPieceBytesMax) continue;
    yield Buffer.from(text);
    text = '';
  }
  yield Buffer.from(text);
}

/** One buffer where the pieces are few, so that its length can be told; else they follow as they are asked for. */
function wholeOrPieces(pieces: Generator<Uint8Array>): Body {
  const first: Uint8Array[] = [];
  let bytes = 0;
  for (;;) {
    const next = pieces.next();
    if (next.done === true) return first.length === 1 ? first[0]! : Buffer.concat(first);
    first.push(next.value);
    bytes += next.value.length;
    if (bytes > listWholeBytesMax) return asAsync(pieces, first);
  }
}

async function* asAsync(pieces: Generator<Uint8Array>, first: readonly Uint8Array[] = []): AsyncGenerator<Uint8Array> {
  yield* first;
  yield* pieces;
}
