/** What differs between two answers to one request, once what must differ is taken out. */
import { fieldOf, isObject } from '#base/unknown.ts';
import type { Reply } from './side.ts';

/** `text` is the same for differences of one cause. */
export interface Difference {
  aspect: 'code' | 'causes' | 'warnings' | 'stored' | 'columns' | 'message';
  text: string;
}

interface Cause {
  reason?: string;
  field?: string;
}

/** `spec.containers[0].name` → `spec.containers[].name` */
const unindexed = (path: string): string => path.replace(/\[\d+\]/g, '[]');

function codeOf({ status, body }: Reply): string {
  const reason = fieldOf(body, 'reason');
  return status < 300 ? 'taken' : `${status} ${typeof reason === 'string' ? reason : ''}`;
}

function causesOf({ body }: Reply): string[] {
  const causes = fieldOf(body, 'details', 'causes');
  if (!Array.isArray(causes)) return [];
  const lines = (causes as Cause[]).map(({ field, reason }) => `${field ?? ''} ${reason ?? ''}`);
  return [...new Set(lines)].sort();
}

const messageOf = ({ body }: Reply): string => String(fieldOf(body, 'message') ?? '');

/** The objects of what is made anew each time: ids, times, names from chance. */
function normalise(value: unknown, path: string): unknown {
  if (Array.isArray(value)) {
    const items = value.map((item) => normalise(item, `${path}[]`));
    return path === '.metadata.managedFields' ? items.sort(byManager) : items;
  }
  if (typeof value === 'string')
    return isNow(value) ? 'now' : value.replace(/kube-api-access-[a-z0-9]{5}/, 'kube-api-access-x');
  if (!isObject(value)) return value;
  const out: Record<string, unknown> = {};
  for (const [key, inner] of Object.entries(value)) {
    const at = `${path}.${key}`;
    if (isVolatile(at)) continue;
    out[key] = normalise(inner, at);
  }
  return out;
}

/** Which of two managers is the older one depends on how fast each side's controllers are. */
function byManager(a: unknown, b: unknown): number {
  const [mine, other] = [a, b].map((one) =>
    ['operation', 'manager', 'subresource', 'apiVersion'].map((field) => String(fieldOf(one, field) ?? '')).join(' '),
  );
  return String(mine) < String(other) ? -1 : 1;
}

const nowMs = 600_000;
/** A time that a server set just now. */
const isNow = (text: string): boolean =>
  /^\d{4}-\d\d-\d\dT/.test(text) && Math.abs(Date.now() - Date.parse(text)) < nowMs;

const volatilePaths = new Set([
  ...['uid', 'resourceVersion', 'creationTimestamp', 'deletionTimestamp'].map((field) => `.metadata.${field}`),
  ...['clusterIP', 'clusterIPs', 'healthCheckNodePort', 'ports[].nodePort'].map((field) => `.spec.${field}`),
  '.metadata.managedFields[].time',
]);
const isVolatile = (path: string): boolean => volatilePaths.has(path);

/** Go writes a list that it has not as null, and so does what it stored as protobuf where there are no items. */
const isEmptyList = (value: unknown): boolean => value === null || (Array.isArray(value) && value.length === 0);

/** The paths at which two values differ, with both sides in short. */
function listDifferences(a: unknown, b: unknown, path: string, out: string[]): void {
  if (a === b || (isEmptyList(a) && isEmptyList(b))) return;
  if (Array.isArray(a) && Array.isArray(b) && a.length === b.length) {
    a.forEach((item, i) => listDifferences(item, b[i], `${path}[]`, out));
    return;
  }
  if (isObject(a) && isObject(b)) {
    for (const key of new Set([...Object.keys(a), ...Object.keys(b)]))
      listDifferences(a[key], b[key], `${path}.${key}`, out);
    return;
  }
  out.push(`${path} is ${short(a)}, should be ${short(b)}`);
}

function short(value: unknown): string {
  const text = JSON.stringify(value) ?? 'absent';
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}

interface Row {
  cells: unknown[];
  columns: string[];
  object: unknown;
}

function rowOf({ body }: Reply): Row {
  const rows = fieldOf(body, 'rows');
  if (!Array.isArray(rows)) return { cells: [], columns: [], object: body };
  const definitions = fieldOf(body, 'columnDefinitions');
  const columns = (Array.isArray(definitions) ? definitions : []).map((one: unknown) =>
    ['name', 'type', 'format', 'priority'].map((field) => String(fieldOf(one, field))).join(' '),
  );
  const row = nameless(rows[0]);
  const cells = fieldOf(row, 'cells');
  return { cells: Array.isArray(cells) ? cells : [], columns, object: fieldOf(row, 'object') };
}

/** A row without the letters of a generated name and its own id, wherever they stand. */
function nameless(row: unknown): unknown {
  const [name, prefix, uid] = ['name', 'generateName', 'uid'].map((field) => fieldOf(row, 'object', 'metadata', field));
  const isGenerated =
    typeof name === 'string' &&
    (/^[\da-f]{8}-([\da-f]{4}-){3}[\da-f]{12}$/.test(name) ||
      (typeof prefix === 'string' && name.length === prefix.length + 5));
  let text = JSON.stringify(row) ?? 'null';
  if (isGenerated) text = text.replaceAll(name, 'generated');
  if (typeof uid === 'string' && uid.length === 36) text = text.replaceAll(uid, 'uid');
  return JSON.parse(text);
}

/** How old something is depends on when it was asked. */
const isAge = (column: string): boolean =>
  /^(Age|Created At|Last Seen|First Seen|Last Schedule|Duration) /.test(column);

/** A cell without the address and the ports that a Service was given. */
const shownCell = (cell: unknown): string =>
  String(JSON.stringify(cell))
    .replace(/10\.9[67]\.\d+\.\d+/g, 'address')
    .replace(/:3\d{4}\//g, ':port/');

function compareColumns(mine: Row, theirs: Row): string[] {
  if (mine.columns.join() !== theirs.columns.join())
    return [`columns are ${mine.columns.join(', ')}, should be ${theirs.columns.join(', ')}`];
  return theirs.columns.flatMap((column, i) =>
    isAge(column) || shownCell(mine.cells[i]) === shownCell(theirs.cells[i])
      ? []
      : [`${column}: ${short(mine.cells[i])}, should be ${short(theirs.cells[i])}`],
  );
}

/** How `mine` differs from what the judge answered. Where one took the object and the other did not, only that counts. */
export function compareReplies(mine: Reply, theirs: Reply): Difference[] {
  const found: Difference[] = [];
  const add = (aspect: Difference['aspect'], texts: string[]): void => {
    for (const text of texts) found.push({ aspect, text });
  };
  const [code, wanted] = [codeOf(mine), codeOf(theirs)];
  if (code !== wanted) {
    const refused = wanted === 'taken' ? mine : theirs;
    const why = refused.status === 422 ? causesOf(refused).map(unindexed).join(', ') : messageOf(refused).slice(0, 200);
    add('code', [`${code}, should be ${wanted}: ${why}`]);
    return found;
  }
  if (wanted === 'taken') {
    const [my, their] = [rowOf(mine), rowOf(theirs)];
    const paths: string[] = [];
    listDifferences(normalise(my.object, ''), normalise(their.object, ''), '', paths);
    add('stored', [...new Set(paths)]);
    add('columns', compareColumns(my, their));
  } else {
    const [my, their] = [causesOf(mine), causesOf(theirs)];
    const extra = my.filter((cause) => !their.includes(cause)).map((cause) => `+ ${unindexed(cause)}`);
    const missing = their.filter((cause) => !my.includes(cause)).map((cause) => `- ${unindexed(cause)}`);
    add('causes', extra.length + missing.length > 0 ? [[...missing, ...extra].join(' ')] : []);
    if (messageOf(mine) !== messageOf(theirs))
      add('message', [`${messageOf(mine)}\n      should be ${messageOf(theirs)}`]);
  }
  const [my, their] = [mine.warnings.join('; '), theirs.warnings.join('; ')];
  if (my !== their) add('warnings', [`${my || 'none'}, should be ${their || 'none'}`]);
  return found;
}
