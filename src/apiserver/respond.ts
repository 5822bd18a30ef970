/** Answers: an object, stored or made, in the form and encoding that the client takes. */
import { ApiError } from '#base/errors.ts';
import type { ApiResponse } from '#base/api-request.ts';
import { freezeJson } from '#base/json.ts';
import { formatYaml } from '#base/yaml.ts';
import type { KubeList, KubeObject, KubeStatus } from '#base/objects.ts';
import type { KindRecord } from '#schema/kind.ts';
import { encodeObject } from '#schema/protobuf.ts';
import type { StoredValue } from '#store/store.ts';
import type { RequestContext } from './context.ts';
import { warningCharsMax, warningsCharsMax } from './limits.ts';
import { mediaTypeOf, negotiate } from './negotiate.ts';
import type { AnswerForms, Encoding } from './negotiate.ts';
import { encodeStored, hasProtobuf } from './protobuf.ts';
import { isShownAsStored } from './stored-objects.ts';
import { shownOf } from './conversion.ts';
import { makeTable, partialMetadata } from './table.ts';
import type { IncludeObject } from './table.ts';

const jsonHeaders = Object.freeze({ 'content-type': 'application/json' });

export function encodeBody(object: unknown, encoding: Encoding): Buffer {
  return encoding === 'yaml' ? Buffer.from(formatYaml(object)) : Buffer.from(`${JSON.stringify(object)}\n`);
}

export function headersFor(context: RequestContext, encoding: Encoding): Record<string, string> {
  const headers: Record<string, string> = {
    ...jsonHeaders,
    'content-type': mediaTypeOf(encoding),
    'cache-control': 'no-cache, private',
  };
  if (context.warnings.length > 0) headers.warning = warningHeader(context.warnings);
  return headers;
}

/**
 * Warnings as one header (RFC 7234, 5.5): each once, cut to what a header may hold; control characters and what is no
 * Latin 1 have no place in one.
 */
export function warningHeader(warnings: readonly string[]): string {
  const out: string[] = [];
  let left = warningsCharsMax;
  for (const warning of new Set(warnings)) {
    const clean = warning.replaceAll('\n', ' ').replace(/[^\x20-\x7e]/g, '?');
    const text = JSON.stringify(clean.length > warningCharsMax ? `${clean.slice(0, warningCharsMax)}...` : clean);
    left -= text.length;
    if (left < 0) break;
    out.push(`299 - ${text}`);
  }
  return out.join(', ');
}

export function includeObject(context: RequestContext): IncludeObject {
  const value = context.request.query.get('includeObject') ?? 'Metadata';
  if (value !== 'None' && value !== 'Metadata' && value !== 'Object')
    throw new ApiError('BadRequest', `invalid includeObject value: ${JSON.stringify(value)}`);
  return value;
}

/** The view of a stored value in the version of the request's kind. */
export function viewAs<T extends KubeObject>(context: RequestContext, kind: KindRecord<T>, stored: StoredValue): T {
  return shownOf(context.server.objects, kind, stored);
}

/** An object as it is stored; bytes go out untouched where nothing needs converting. */
export function answerStored(context: RequestContext, stored: StoredValue, status = 200): ApiResponse {
  const { request, kind, server } = context;
  if (request.wantsObject === true)
    return { status, headers: headersFor(context, 'json'), object: viewAs(context, kind, stored) };
  const wanted = negotiate(request, formsFor(context, kind));
  if (wanted.encoding === 'protobuf' && wanted.form === 'object')
    return {
      status,
      headers: headersFor(context, 'protobuf'),
      body: encodeStored(kind, stored, () => viewAs(context, kind, stored)),
    };
  if (wanted.form === 'object' && wanted.encoding === 'json' && isShownAsStored(kind))
    return { status, headers: headersFor(context, 'json'), body: server.objects.bytes(stored) };
  return answerObject(context, viewAs(context, kind, stored), status);
}

/** In what objects of a kind can be given, or what else is answered to requests for it. */
export function formsOf(kind: KindRecord | null, shown?: string): AnswerForms {
  if (kind === null) return { protobuf: false, table: false };
  const protobuf = hasProtobuf(kind) && (shown === undefined || shown === kind.kind);
  return { protobuf, table: kind.verbs.includes('get') };
}

/** The same of the request's answer: upstream shows the status of some kinds as an object only. */
function formsFor({ info }: RequestContext, kind: KindRecord | null, shown?: string): AnswerForms {
  const forms = formsOf(kind, shown);
  return kind?.statusIsPlain === true && info.subresource === 'status' ? { ...forms, table: false } : forms;
}

const isList = (object: KubeObject | KubeList): object is KubeList => 'items' in object;

/**
 * `kind` says how the object is shown, `null` that it is none that is served. A list of the kind is shown item by item.
 */
export function answerObject(
  context: RequestContext,
  object: KubeObject | KubeList,
  status = 200,
  kind: KindRecord | null = context.kind,
): ApiResponse {
  const { request } = context;
  if (request.wantsObject === true) return { status, headers: headersFor(context, 'json'), object: freezeJson(object) };
  const wanted = negotiate(request, formsFor(context, kind, object.kind));
  if (wanted.encoding === 'protobuf' && wanted.form === 'object' && kind !== null)
    return { status, headers: headersFor(context, 'protobuf'), body: encodeObject(kind.type, object) };
  let shown: unknown = object;
  if (wanted.form === 'table' && kind !== null)
    shown = makeTable(kind, isList(object) ? object.items : [object], {
      metadata: { resourceVersion: object.metadata.resourceVersion ?? '' },
      include: includeObject(context),
      now: context.server.clock.now(),
      version: wanted.version,
    });
  else if (wanted.form === 'partial') shown = partialMetadata(object, wanted.version);
  return { status, headers: headersFor(context, wanted.encoding), body: encodeBody(shown, wanted.encoding) };
}

export function answerJson(value: object, status = 200, headers: Record<string, string> = jsonHeaders): ApiResponse {
  return {
    status,
    headers: { ...headers },
    body: Buffer.from(`${JSON.stringify(value)}\n`),
    object: value,
  };
}

export function answerStatus(context: RequestContext | undefined, status: KubeStatus, code: number): ApiResponse {
  return {
    status: code,
    headers: context === undefined ? { ...jsonHeaders } : headersFor(context, 'json'),
    body: Buffer.from(`${JSON.stringify(status)}\n`),
    object: status,
  };
}

export function answerText(text: string, status = 200): ApiResponse {
  return { status, headers: { 'content-type': 'text/plain; charset=utf-8' }, body: Buffer.from(text) };
}
