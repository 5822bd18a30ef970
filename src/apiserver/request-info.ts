/** What a path and a method ask for (Kubernetes API concepts, "API resources and verbs"). */
import type { ApiRequest } from '#base/api-request.ts';
import { fieldValueOf, parseFieldSelector } from '#base/selectors.ts';

export interface RequestInfo {
  isResource: boolean;
  /**
   * `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; the lower-case method for
   * non-resource paths.
   */
  verb: string;
  path: string;
  group: string;
  version: string;
  resource: string;
  subresource: string;
  namespace: string;
  name: string;
  /** The one name that a list, watch or deletecollection is bound to by its field selector; '' for none. */
  selectedName: string;
  /** The node that a field selector on `spec.nodeName` leaves; '' where there is none. */
  selectedNode: string;
  /** What follows `proxy/`. */
  rest: string;
}

const verbOf: Record<string, string> = {
  POST: 'create',
  PUT: 'update',
  PATCH: 'patch',
  DELETE: 'delete',
  GET: 'get',
  HEAD: 'get',
};

export function parseRequestInfo(request: ApiRequest): RequestInfo {
  const path = request.path;
  const none: RequestInfo = {
    isResource: false,
    verb: request.method.toLowerCase(),
    path,
    group: '',
    version: '',
    resource: '',
    subresource: '',
    namespace: '',
    name: '',
    selectedName: '',
    selectedNode: '',
    rest: '',
  };
  const parts = partsOf(path);
  let at: number;
  const info = { ...none };
  if (parts[0] === 'api' && parts.length >= 3) {
    info.version = parts[1]!;
    at = 2;
  } else if (parts[0] === 'apis' && parts.length >= 4) {
    info.group = parts[1]!;
    info.version = parts[2]!;
    at = 3;
  } else return none;
  info.isResource = true;
  info.verb = verbOf[request.method] ?? request.method.toLowerCase();
  let watching = false;
  if (parts[at] === 'watch' && parts.length > at + 1) {
    watching = true;
    at++;
  }
  if (parts[at] === 'namespaces' && parts.length > at + 1) {
    info.namespace = parts[at + 1]!;
    const third = parts[at + 2];
    if (third === undefined || ((third === 'status' || third === 'finalize') && parts.length === at + 3)) {
      info.resource = 'namespaces';
      info.name = info.namespace;
      info.subresource = third ?? '';
    } else {
      info.resource = third;
      info.name = parts[at + 3] ?? '';
      info.subresource = parts[at + 4] ?? '';
      info.rest = restOf(path, at + 5);
    }
  } else {
    info.resource = parts[at]!;
    info.name = parts[at + 1] ?? '';
    info.subresource = parts[at + 2] ?? '';
    info.rest = restOf(path, at + 3);
  }
  if (info.verb === 'get' && info.subresource === '') {
    const wantsWatch = watching || ['true', '1'].includes(request.query.get('watch') ?? '');
    if (wantsWatch) info.verb = 'watch';
    else if (info.name === '') info.verb = 'list';
  }
  if (info.verb === 'delete' && info.name === '') info.verb = 'deletecollection';
  if (info.name === '') {
    const selector = request.query.get('fieldSelector');
    if (selector !== null && collectionVerbs.has(info.verb)) Object.assign(info, selectedIn(selector));
  }
  return info;
}

const collectionVerbs = new Set(['list', 'watch', 'deletecollection']);

/** The one name and the one node that a field selector leaves; '' where there is none, and for what is no selector. */
function selectedIn(selector: string): Pick<RequestInfo, 'selectedName' | 'selectedNode'> {
  try {
    const fields = parseFieldSelector(selector);
    return {
      selectedName: fieldValueOf(fields, 'metadata.name') ?? '',
      selectedNode: fieldValueOf(fields, 'spec.nodeName') ?? '',
    };
  } catch {
    return { selectedName: '', selectedNode: '' };
  }
}

function partsOf(path: string): string[] {
  const parts: string[] = [];
  const escaped = path.includes('%');
  for (let from = 0; from < path.length;) {
    let to = path.indexOf('/', from);
    if (to < 0) to = path.length;
    if (to > from) parts.push(escaped ? decode(path.slice(from, to)) : path.slice(from, to));
    from = to + 1;
  }
  return parts;
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function restOf(path: string, skip: number): string {
  let at = 0;
  for (let i = 0; i <= skip; i++) {
    at = path.indexOf('/', at);
    if (at < 0) return '';
    at++;
  }
  return path.slice(at);
}
