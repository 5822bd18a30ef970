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
import { keptListBytesMin, listPieceBytesMax, listWholeBytesMax, scannedTogetherMax } from './limits.ts';
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
    return wholeOrPieces(
      context,
      encodeListPieces({ kind, values, view, metadata, cache: server.lists, key: listKey(context, 'protobuf') }),
    );
  if (wanted.form === 'object' && wanted.encoding === 'json' && isShownAsStored(kind))
    return storedList(context, kind, values, metadata);
  if (wanted.form === 'table') {
    const include = includeObject(context);
    const now = server.clock.now();
    const { rows: _rows, ...table } = makeTable(kind, [], { metadata, include, now, version: wanted.version });
    const make = (stored: StoredValue): object => tableRow(kind, view(stored), include, server.clock.now());
    return itemsBody(context, { head: table, field: 'rows', values, make }, wanted);
  }
  if (wanted.form === 'partial') {
    const partial = { ...head, kind: 'PartialObjectMetadataList', apiVersion: `meta.k8s.io/${wanted.version}` };
    const make = (stored: StoredValue): object => partialMetadata(view(stored), wanted.version);
    return itemsBody(context, { head: partial, field: 'items', values, make }, wanted);
  }
  return itemsBody(context, { head, field: 'items', values, make: view }, wanted);
}

/** A list made of the stored bytes, without parsing any. */
function storedList(
  context: RequestContext,
  kind: KindRecord,
  values: readonly StoredValue[],
  metadata: unknown,
): Body {
  const { objects, lists } = context.server;
  const head = Buffer.from(
    `{"kind":${JSON.stringify(kind.listKind)},"apiVersion":${JSON.stringify(apiVersionOf(kind))},"metadata":${JSON.stringify(metadata)},"items":[`,
  );
  let size = head.length + 3;
  for (const stored of values) {
    size += objects.size(stored) + 1;
    if (size > listWholeBytesMax) break;
  }
  const mayBeKept = size >= keptListBytesMin && size <= listWholeBytesMax;
  const key = mayBeKept ? listKey(context, 'json') : undefined;
  const known = key === undefined ? undefined : lists.find(key, values);
  if (known !== undefined) return asAsync(context, slices(known), [head]);
  const pieces = function* (isWhole: boolean, pieceBytes: number): Generator<Uint8Array> {
    let out = Buffer.allocUnsafe(isWhole ? size : Math.max(pieceBytes, head.length + 3));
    let [begun, at] = [0, head.copy(out)];
    for (let i = 0; i < values.length; i++) {
      const room = objects.size(values[i]!) + 4;
      if (at - begun + room > pieceBytes) {
        yield out.subarray(begun, at);
        if (!isWhole) out = Buffer.allocUnsafe(Math.max(pieceBytes, room));
        begun = at = isWhole ? at : 0;
      }
      if (i > 0) out[at++] = 44;
      at = objects.write(values[i]!, out, at);
    }
    at += out.write(']}\n', at, 'latin1');
    if (isWhole && key !== undefined) lists.keep(key, values, out.subarray(head.length, at));
    yield out.subarray(begun, at);
  };
  if (size <= wholeBytes(context)) return pieces(true, size).next().value as Uint8Array;
  return asAsync(context, pieces(size <= listWholeBytesMax, listPieceBytesMax));
}

const listKey = ({ request }: RequestContext, encoding: string): string =>
  `${encoding} ${request.path}?${request.query.toString()}`;

function* slices(bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += listPieceBytesMax) yield bytes.subarray(at, at + listPieceBytesMax);
}

/** A list whose items are made one by one. */
interface ItemsBody {
  head: object;
  /** Where the items are: `items`, `rows`. */
  field: string;
  values: readonly StoredValue[];
  make(stored: StoredValue): object;
}

function itemsBody(context: RequestContext, list: ItemsBody, wanted: Negotiated): Body {
  return wholeOrPieces(context, wanted.encoding === 'yaml' ? yamlItems(list) : jsonItems(list));
}

function* jsonItems({ head, field, values, make }: ItemsBody): Generator<Uint8Array> {
  let text = `${JSON.stringify(head).slice(0, -1)},${JSON.stringify(field)}:[`;
  for (let i = 0; i < values.length; i++) {
    text += `${i > 0 ? ',' : ''}${JSON.stringify(make(values[i]!))}`;
    if (text.length < listPieceBytesMax && i % scannedTogetherMax !== scannedTogetherMax - 1) continue;
    yield Buffer.from(text);
    text = '';
  }
  yield Buffer.from(`${text}]}\n`);
}

function* yamlItems({ head, field, values, make }: ItemsBody): Generator<Uint8Array> {
  let text = `${formatYaml(head)}${field}:${values.length === 0 ? ' []' : ''}\n`;
  for (const [i, stored] of values.entries()) {
    text += formatYaml([make(stored)]);
    if (text.length < listPieceBytesMax && i % scannedTogetherMax !== scannedTogetherMax - 1) continue;
    yield Buffer.from(text);
    text = '';
  }
  yield Buffer.from(text);
}

/** Up to what a list is one buffer: less where others wait meanwhile. */
const wholeBytes = ({ server }: RequestContext): number =>
  server.flowControl.isShared ? listPieceBytesMax : listWholeBytesMax;

/** One buffer where the pieces are few, so that its length can be told; else they follow as they are asked for. */
function wholeOrPieces(context: RequestContext, pieces: Generator<Uint8Array>): Body {
  const first: Uint8Array[] = [];
  const bytesMax = wholeBytes(context);
  let bytes = 0;
  for (;;) {
    const next = pieces.next();
    if (next.done === true) return first.length === 1 ? first[0]! : Buffer.concat(first);
    first.push(next.value);
    bytes += next.value.length;
    if (bytes > bytesMax || (first.length > 1 && context.server.flowControl.isShared))
      return asAsync(context, pieces, first);
  }
}

async function* asAsync(
  context: RequestContext,
  pieces: Generator<Uint8Array>,
  first: readonly Uint8Array[] = [],
): AsyncGenerator<Uint8Array> {
  for (const piece of first) if (piece.length > 0) yield piece;
  for (;;) {
    await context.pause?.();
    const next = pieces.next();
    if (next.done === true) return;
    if (next.value.length > 0) yield next.value;
  }
}
