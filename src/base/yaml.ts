/**
 * YAML as Kubernetes reads it: YAML 1.1 booleans, octal integers with a leading zero, no base-60 numbers and no dates (they stay text),
 * merge keys. Depth is bounded by the reader; aliases by the size of what they expand to.
 */
import { boolYaml11Tag, defineScalarTag, dump, FAILSAFE_SCHEMA, floatCoreTag, load, loadAll, mergeTag, NOT_RESOLVED, nullYaml11Tag, Schema } from 'js-yaml';

const integerTag = defineScalarTag('tag:yaml.org,2002:int', {
  implicit: true,
  implicitFirstChars: ['-', '+', ...'0123456789'],
  resolve(source: string) {
    const text = source.replaceAll('_', '');
    const sign = text.startsWith('-') ? -1 : 1;
    const digits = text.replace(/^[-+]/, '');
    if (/^(0|[1-9][0-9]*)$/.test(digits)) return sign * Number(digits);
    if (/^0x[0-9a-fA-F]+$/.test(digits)) return sign * parseInt(digits.slice(2), 16);
    if (/^0b[01]+$/.test(digits)) return sign * parseInt(digits.slice(2), 2);
    if (/^0o?[0-7]+$/.test(digits)) return sign * parseInt(digits.replace(/^0o?/, ''), 8);
    return NOT_RESOLVED;
  },
  identify: (value: unknown) => Number.isInteger(value),
  represent: (value: unknown) => String(value),
});

const schema = new Schema([...FAILSAFE_SCHEMA.tags, nullYaml11Tag, boolYaml11Tag, integerTag, floatCoreTag, mergeTag]);

/** One document. Throws the reader's error. */
export function parseYaml(text: string): unknown { return load(text, { schema }); }

/** Every document, empty ones left out. */
export function parseYamlDocuments(text: string): unknown[] {
  return loadAll(text, { schema }).filter((document: unknown) => document !== null && document !== undefined);
}

export function formatYaml(value: unknown): string { return dump(value, { lineWidth: -1, noRefs: true }); }
