/**
 * YAML as Kubernetes reads it: YAML 1.1 booleans, octal integers with a leading zero, no base-60 numbers and no dates
 * (they stay text), merge keys. Depth is bounded by the reader; aliases by the size of what they expand to.
 */
import { isExactInteger } from './json.ts';
import { jsonDuplicatesMax, yamlAliasSizeMax, yamlDepthMax } from './limits.ts';
import { isObject } from './unknown.ts';
import {
  boolYaml11Tag,
  constructFromEvents,
  DUMP_SCHEMA,
  defineScalarTag,
  dump,
  EVENT_ID,
  FAILSAFE_SCHEMA,
  floatCoreTag,
  getScalarValue,
  intCoreTag,
  intYaml11Tag,
  load,
  loadAll,
  mergeTag,
  NOT_RESOLVED,
  nullYaml11Tag,
  parseEvents,
  Schema,
} from 'js-yaml';
import type { Event } from 'js-yaml';

/** Integers that a number cannot hold are refused, never changed. */
function exactly(source: string, digits: string, sign: number): number {
  if (!isExactInteger(digits))
    throw new YamlError(`integer ${source.slice(0, 40)} is beyond ±(2^53-1) and cannot be kept exactly`);
  return sign * Number(digits);
}

/** What is wrong with a document beyond its syntax. */
class YamlError extends Error {}

const integerTag = defineScalarTag('tag:yaml.org,2002:int', {
  implicit: true,
  implicitFirstChars: ['-', '+', ...'0123456789'],
  resolve(source: string) {
    const text = source.replaceAll('_', '');
    const sign = text.startsWith('-') ? -1 : 1;
    const digits = text.replace(/^[-+]/, '');
    if (/^(0|[1-9][0-9]*|0x[0-9a-fA-F]+|0b[01]+)$/.test(digits)) return exactly(source, digits, sign);
    return /^0o?[0-7]+$/.test(digits) ? exactly(source, `0o${digits.replace(/^0o?/, '')}`, sign) : NOT_RESOLVED;
  },
  identify: (value: unknown) => Number.isInteger(value),
  represent: (value: unknown) => String(value),
});

const schema = new Schema([...FAILSAFE_SCHEMA.tags, nullYaml11Tag, boolYaml11Tag, integerTag, floatCoreTag, mergeTag]);

/**
 * The library's own choice for writing quotes all that any YAML takes for something else than text, but for digits
 * without end.
 */
const writtenSchema = DUMP_SCHEMA.withTags({
  ...intYaml11Tag,
  resolve(source: string, isExplicit: boolean, tagName: string) {
    if (/^[-+]?[0-9][0-9_]*$/.test(source)) return 0;
    const result = intYaml11Tag.resolve(source, isExplicit, tagName);
    return result === NOT_RESOLVED ? intCoreTag.resolve(source, isExplicit, tagName) : result;
  },
});

/**
 * Throws where aliases make the document larger than its text and `yamlAliasSizeMax` allow, where one names what it is
 * part of, and where a number is none that JSON can write.
 */
function checkSize(documents: readonly unknown[], text: string): void {
  let left = 2 * text.length + yamlAliasSizeMax;
  const visit = (value: unknown, depth: number): void => {
    left -= typeof value === 'string' ? 1 + value.length : 1;
    if (left < 0) throw new YamlError('document contains excessive aliasing');
    if (typeof value === 'number' && !Number.isFinite(value))
      throw new YamlError(`${value} is no number that JSON has`);
    if (typeof value !== 'object' || value === null) return;
    if (depth > yamlDepthMax) throw new YamlError(`nesting exceeded maxDepth (${yamlDepthMax})`);
    if (Array.isArray(value)) {
      for (const item of value) visit(item, depth + 1);
      return;
    }
    if (!isObject(value)) return;
    for (const key in value) {
      left -= key.length;
      visit(value[key], depth + 1);
    }
  };
  for (const document of documents) visit(document, 0);
}

/** One document. Throws the reader's error, or `YamlError` for what is too large once aliases are written out. */
export function parseYaml(text: string): unknown {
  const document = load(text, { schema, maxDepth: yamlDepthMax });
  checkSize([document], text);
  return document;
}

/** A document in which keys may be given twice, and what is wrong with those, as Go's reader says it. */
export interface LooseYaml {
  value: unknown;
  /** `line 9: key "foo" already set in map`: the first `jsonDuplicatesMax`. */
  duplicates: string[];
}

/** One document; of a key that is given twice the last value holds. Throws as `parseYaml` for all else. */
export function parseLooseYaml(text: string): LooseYaml {
  const events = parseEvents(text, { maxDepth: yamlDepthMax });
  const documents = constructFromEvents(events, { source: text, schema, json: true });
  if (documents.length !== 1) throw new YamlError(`expected one document, found ${documents.length}`);
  checkSize(documents, text);
  return { value: documents[0], duplicates: duplicatesOf(text, events) };
}

/** What is open: of a mapping its keys, and whether the next node is one. */
interface OpenNode {
  keys: Set<string> | undefined;
  expectsKey: boolean;
  /** The key whose value comes next, if it was there before. */
  doubled: string | undefined;
}

/** Go names the line on which the value of the doubled key begins. */
function duplicatesOf(text: string, events: readonly Event[]): string[] {
  const duplicates: string[] = [];
  const open: OpenNode[] = [];
  for (const event of events) {
    if (event.type === EVENT_ID.POP) {
      open.pop();
      continue;
    }
    const outer = open.at(-1);
    if (outer?.keys !== undefined) {
      if (!outer.expectsKey) {
        if (outer.doubled !== undefined && duplicates.length < jsonDuplicatesMax)
          duplicates.push(
            `line ${lineAt(text, positionOf(event))}: key ${JSON.stringify(outer.doubled)} already set in map`,
          );
        outer.doubled = undefined;
      } else if (event.type === EVENT_ID.SCALAR) {
        const key = getScalarValue(text, event);
        if (outer.keys.has(key) && key !== '<<') outer.doubled = key;
        outer.keys.add(key);
      }
      outer.expectsKey = !outer.expectsKey;
    }
    if (event.type === EVENT_ID.MAPPING) open.push({ keys: new Set(), expectsKey: true, doubled: undefined });
    else if (event.type === EVENT_ID.SEQUENCE || event.type === EVENT_ID.DOCUMENT)
      open.push({ keys: undefined, expectsKey: false, doubled: undefined });
  }
  return duplicates;
}

function positionOf(event: Event): number {
  if (event.type === EVENT_ID.SCALAR) return event.valueStart;
  if (event.type === EVENT_ID.ALIAS) return event.anchorStart;
  return event.type === EVENT_ID.MAPPING || event.type === EVENT_ID.SEQUENCE ? event.start : 0;
}

/** Counted from one. */
function lineAt(text: string, position: number): number {
  let line = 1;
  for (let at = text.indexOf('\n'); at >= 0 && at < position; at = text.indexOf('\n', at + 1)) line++;
  return line;
}

/** Every document, empty ones left out. Throws as `parseYaml`; the bound holds for all together. */
export function parseYamlDocuments(text: string): unknown[] {
  const documents = loadAll(text, { schema, maxDepth: yamlDepthMax }).filter(
    (document: unknown) => document !== null && document !== undefined,
  );
  checkSize(documents, text);
  return documents;
}

/** Text that other readers would take for something else (`yes`, `0755`, `1e3`) is quoted. */
export function formatYaml(value: unknown): string {
  return dump(value, { lineWidth: -1, noRefs: true, schema: writtenSchema });
}
