/** The columns of custom resources in tables, as their definition names them (`additionalPrinterColumns`). */
import type { CustomResourceDefinitionVersion } from '#api/apiextensions.v1.ts';
import { compileJsonPath } from './json-path.ts';
import { ageOf } from './kind.ts';
import type { Column } from './kind.ts';

export function columnsOf(version: CustomResourceDefinitionVersion): Column[] {
  const name: Column = { name: 'Name', type: 'string', format: 'name', value: (o) => o.metadata.name };
  const declared = version.additionalPrinterColumns ?? [];
  if (declared.length === 0)
    return [name, { name: 'Age', type: 'date', value: (o, now) => ageOf(o.metadata.creationTimestamp, now) }];
  return [
    name,
    ...declared.map((c): Column => {
      const read = compileJsonPath(c.jsonPath);
      return {
        name: c.name,
        type: columnTypes.find((type) => type === c.type) ?? 'string',
        ...(c.format === undefined ? {} : { format: c.format }),
        priority: c.priority ?? 0,
        value: (o, now) => cell(read(o), c.type, now),
      };
    }),
  ];
}

const columnTypes = ['string', 'integer', 'date', 'number', 'boolean'] as const;

function cell(values: readonly unknown[], type: string, now: number): string | number | boolean | null {
  const value = values[0];
  if (value === undefined || value === null) return null;
  if (type === 'date') return ageOf(String(value), now);
  if (type === 'integer' || type === 'number') return Number(value);
  if (type === 'boolean') return value === true;
  return typeof value === 'object' ? JSON.stringify(value) : values.length > 1 ? values.join(',') : String(value);
}
