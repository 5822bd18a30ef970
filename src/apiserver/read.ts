/** get and list. */
import type { ApiResponse } from '#base/api-request.ts';
import { ApiError } from '#base/errors.ts';
import { apiVersionOf, type KubeList } from '#base/objects.ts';
import { isObject } from '#base/unknown.ts';
import { CompactedError, FutureRevisionError } from '#store/store.ts';
import type { ListResult, StoredValue } from '#store/store.ts';
import type { RequestContext } from './context.ts';
import { scannedTogetherMax, scanPageMax } from './limits.ts';
import { prepareShown } from './conversion.ts';
import { listBody } from './list-body.ts';
import { negotiate } from './negotiate.ts';
import { notFound } from './object-errors.ts';
import { answerStored, formsOf, headersFor, viewAs } from './respond.ts';
import { Selection } from './selection.ts';
import { storageKey, storagePrefix } from './stored-objects.ts';

function tooLargeRevision(wanted: number, current: number): ApiError {
  return new ApiError('Timeout', `Too large resource version: ${wanted}, current: ${current}`, {
    causes: [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }],
    retryAfterSeconds: 1,
  });
}

export function parseRevision(text: string | null): number | undefined {
  if (text === null || text === '') return undefined;
  if (!/^\d+$/.test(text))
    throw new ApiError(
      'BadRequest',
      `invalid resource version ${JSON.stringify(text)}: strconv.ParseUint: parsing ${JSON.stringify(text)}: invalid syntax`,
    );
  return Number(text);
}

export async function getStored(context: RequestContext): Promise<StoredValue> {
  const { server, kind, info } = context;
  const stored = await server.store.get(storageKey(kind, info.namespace, info.name));
  if (stored === undefined) throw notFound(kind, info.name);
  await prepareShown(server, kind, [stored]);
  return stored;
}

export async function handleGet(context: RequestContext): Promise<ApiResponse> {
  const wanted = parseRevision(context.request.query.get('resourceVersion'));
  if (wanted !== undefined && wanted > context.server.store.currentRevision())
    throw tooLargeRevision(wanted, context.server.store.currentRevision());
  return answerStored(context, await getStored(context));
}

interface Continue {
  rv: number;
  start: string;
}

function parseContinue(token: string): Continue {
  try {
    const value: unknown = JSON.parse(Buffer.from(token, 'base64url').toString());
    const { v, rv, start } = isObject(value) ? value : {};
    if (v !== 'meta.k8s.io/v1' || typeof start !== 'string' || typeof rv !== 'number') throw new Error('form');
    return { rv, start };
  } catch {
    throw new ApiError('BadRequest', 'continue key is not valid: incorrect encoded continue key');
  }
}

/** `rv` -1: from there on in what is now, which may be another state than that of the pages before. */
function continueToken(rv: number, start: string): string {
  return Buffer.from(JSON.stringify({ v: 'meta.k8s.io/v1', rv, start })).toString('base64url');
}

export interface Page {
  values: StoredValue[];
  revision: number;
  continue?: string;
  remaining?: number;
}

/** The objects that a list request asks for, with the revision they were read at. */
export async function listPage(context: RequestContext, selection: Selection): Promise<Page> {
  const { server, kind, info } = context;
  const query = context.request.query;
  const namespace = info.namespace !== '' ? info.namespace : (selection.namespace ?? '');
  const limit = Number(query.get('limit') ?? 0) || 0;
  const token = query.get('continue') ?? '';
  const wanted = parseRevision(query.get('resourceVersion'));
  const match = query.get('resourceVersionMatch') ?? '';
  checkListOptions(token, wanted, match, query);
  const current = server.store.currentRevision();
  let at: number | undefined;
  let after: string | undefined;
  const prefix = storagePrefix(kind, kind.namespaced ? namespace : '');
  if (token !== '') {
    const from = parseContinue(token);
    at = from.rv < 0 ? undefined : from.rv;
    after = prefix + from.start;
  } else if (wanted !== undefined && wanted > current) throw tooLargeRevision(wanted, current);
  else if (match === 'Exact') at = wanted;
  const { name } = selection;
  if (name !== undefined && (!kind.namespaced || namespace !== '') && token === '' && at === undefined) {
    const stored = await server.store.get(storageKey(kind, namespace, name));
    await prepareShown(server, kind, [stored]);
    return {
      values: stored !== undefined && selection.matches(server.objects, stored) ? [stored] : [],
      revision: current,
    };
  }
  try {
    const page = await scan(context, selection, { prefix, limit, at, after });
    if (selection.isEmpty && token === '')
      server.flowControl.estimates.noteList(info, page.values.length + (page.remaining ?? 0), page.values);
    return page;
  } catch (error) {
    if (error instanceof CompactedError) {
      if (token === '') throw new ApiError('Expired', `too old resource version: ${at} (${error.compactedRevision})`);
      throw new ApiError(
        'Expired',
        'The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.',
        { continue: continueToken(-1, (after ?? prefix).slice(prefix.length)) },
      );
    }
    if (error instanceof FutureRevisionError) throw tooLargeRevision(at ?? 0, error.currentRevision);
    throw error;
  }
}

function checkListOptions(token: string, wanted: number | undefined, match: string, query: URLSearchParams): void {
  if (match !== '' && wanted === undefined && query.get('sendInitialEvents') === null)
    throw new ApiError(
      'Invalid',
      'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided',
    );
  if (match !== '' && match !== 'Exact' && match !== 'NotOlderThan')
    throw new ApiError(
      'Invalid',
      `ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Unsupported value: ${JSON.stringify(match)}: supported values: "Exact", "NotOlderThan", ""`,
    );
  if (match === 'Exact' && wanted === 0)
    throw new ApiError(
      'Invalid',
      'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"',
    );
  if (token !== '' && wanted !== undefined && wanted !== 0)
    throw new ApiError('BadRequest', 'specifying resource version is not allowed when using continue');
}

/** Where a list reads, and how much. */
interface ScanOptions {
  /** The directory of the store. */
  prefix: string;
  /** How many objects at most; 0 for all. */
  limit: number;
  /** The revision; the current one where it is undefined. */
  at: number | undefined;
  /** The key behind which it begins. */
  after: string | undefined;
}

/**
 * A selector may find one in thousands: pages of the store are then larger than the client's, as each page costs a look
 * at what is behind it.
 */
async function scan(
  context: RequestContext,
  selection: Selection,
  { prefix, limit, at, after: start }: ScanOptions,
): Promise<Page> {
  const { server } = context;
  let values: StoredValue[] = [];
  let after = start;
  let revision = at;
  for (;;) {
    const result: ListResult = await server.store.list(prefix, {
      ...(revision === undefined ? {} : { revision }),
      ...(limit > 0 ? { limit: selection.isEmpty ? limit : Math.max(limit, scanPageMax) } : {}),
      ...(after === undefined ? {} : { after }),
    });
    revision = result.revision;
    await prepareShown(server, selection.kind, result.values);
    if (selection.isEmpty && values.length === 0) ({ values } = result);
    else if (selection.isEmpty) for (const stored of result.values) values.push(stored);
    if (!selection.isEmpty) {
      for (const [index, stored] of result.values.entries()) {
        if (index % scannedTogetherMax === scannedTogetherMax - 1) await context.pause?.();
        after = stored.key;
        if (!selection.matches(server.objects, stored)) continue;
        values.push(stored);
        if (limit > 0 && values.length >= limit) break;
      }
    } else after = result.values.at(-1)?.key;
    const more = result.more || (after !== undefined && after !== result.values.at(-1)?.key);
    if (!more || after === undefined) return { values, revision };
    if (limit > 0 && values.length >= limit) {
      const page: Page = {
        values,
        revision,
        continue: continueToken(revision, after.slice(prefix.length)),
      };
      if (selection.isEmpty) page.remaining = result.remaining;
      return page;
    }
  }
}

export async function handleList(context: RequestContext): Promise<ApiResponse> {
  const { kind, request } = context;
  const selection = new Selection(kind, request.query);
  const page = await listPage(context, selection);
  const metadata = {
    resourceVersion: String(page.revision),
    ...(page.continue === undefined ? {} : { continue: page.continue }),
    ...(page.remaining === undefined ? {} : { remainingItemCount: page.remaining }),
  };
  if (request.wantsObject === true) {
    const items = page.values.map((v) => viewAs(context, kind, v));
    const object: KubeList = { apiVersion: apiVersionOf(kind), kind: kind.listKind, metadata, items };
    return { status: 200, headers: {}, object };
  }
  const wanted = negotiate(request, formsOf(kind));
  return {
    status: 200,
    headers: headersFor(context, wanted.encoding),
    body: listBody(context, page.values, metadata, wanted),
  };
}
