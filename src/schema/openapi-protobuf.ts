/** The version 2 document as protobuf (gnostic's `openapi.v2.Document`): the only form in which client-go reads it. */
import { isObject, itemsOf, type JsonObject } from '#base/unknown.ts';
import { formatYaml } from '#base/yaml.ts';
import type { OperationObject, OperationParameter, PathItem, SwaggerDocument } from './openapi.ts';
import { ProtobufWriter } from './protobuf.ts';

function writeAny(w: ProtobufWriter, field: number, value: unknown): void {
  w.message(field, () => w.string(2, formatYaml(value)));
}

function writeExtensions(w: ProtobufWriter, field: number, object: object): void {
  for (const [name, value] of Object.entries(object))
    if (name.startsWith('x-'))
      w.message(field, () => {
        w.string(1, name);
        writeAny(w, 2, value);
      });
}

function writeStrings(w: ProtobufWriter, field: number, values: readonly unknown[] | undefined): void {
  for (const value of values ?? []) if (typeof value === 'string') w.string(field, value);
}

const textFields: readonly [string, number][] = [
  ['$ref', 1],
  ['format', 2],
  ['title', 3],
  ['description', 4],
  ['pattern', 13],
];
const doubleFields: readonly [string, number][] = [
  ['multipleOf', 6],
  ['maximum', 7],
  ['minimum', 9],
];
const integerFields: readonly [string, number][] = [
  ['maxLength', 11],
  ['minLength', 12],
  ['maxItems', 14],
  ['minItems', 15],
  ['maxProperties', 17],
  ['minProperties', 18],
];

/** A schema of ours, or what a definition published as one. */
function writeSchema(w: ProtobufWriter, s: unknown): void {
  if (!isObject(s)) return;
  const { properties } = s;
  for (const [name, field] of textFields) if (typeof s[name] === 'string') w.string(field, s[name]);
  if (s.default !== undefined) writeAny(w, 5, s.default);
  for (const [name, field] of doubleFields) if (typeof s[name] === 'number') w.double(field, s[name]);
  if (s.exclusiveMaximum === true) w.int(8, 1);
  if (s.exclusiveMinimum === true) w.int(10, 1);
  for (const [name, field] of integerFields) if (typeof s[name] === 'number') w.int(field, s[name]);
  if (s.uniqueItems === true) w.int(16, 1);
  writeStrings(w, 19, itemsOf(s.required));
  for (const value of itemsOf(s.enum)) writeAny(w, 20, value);
  if (typeof s.additionalProperties === 'boolean')
    w.message(21, () => w.int(2, s.additionalProperties === true ? 1 : 0));
  else if (s.additionalProperties !== undefined)
    w.message(21, () => w.message(1, () => writeSchema(w, s.additionalProperties)));
  if (s.type !== undefined) w.message(22, () => writeStrings(w, 1, Array.isArray(s.type) ? s.type : [s.type]));
  if (s.items !== undefined) w.message(23, () => w.message(1, () => writeSchema(w, s.items)));
  for (const one of itemsOf(s.allOf)) w.message(24, () => writeSchema(w, one));
  if (isObject(properties)) w.message(25, () => writeNamedSchemas(w, 1, properties));
  writeExtensions(w, 31, s);
}

function writeNamedSchemas(w: ProtobufWriter, field: number, schemas: JsonObject): void {
  for (const [name, schema] of Object.entries(schemas))
    w.message(field, () => {
      w.string(1, name);
      w.message(2, () => writeSchema(w, schema));
    });
}

function writeParameter(w: ProtobufWriter, field: number, p: OperationParameter): void {
  w.message(field, () =>
    w.message(1, () => {
      if (p.in === 'body') {
        w.message(1, () => {
          w.string(2, p.name);
          w.string(3, 'body');
          if (p.required === true) w.int(4, 1);
          w.message(5, () => writeSchema(w, p.schema));
        });
        return;
      }
      const path = p.in === 'path';
      w.message(2, () =>
        w.message(path ? 4 : 3, () => {
          if (p.required === true) w.int(1, 1);
          w.string(2, p.in);
          w.string(4, p.name);
          w.string(path ? 5 : 6, p.type ?? 'string');
          if (p.uniqueItems === true) w.int(path ? 19 : 20, 1);
        }),
      );
    }),
  );
}

function writeOperation(w: ProtobufWriter, field: number, o: OperationObject): void {
  w.message(field, () => {
    w.string(5, o.operationId);
    writeStrings(w, 6, o.produces);
    writeStrings(w, 7, o.consumes);
    for (const p of o.parameters) writeParameter(w, 8, p);
    w.message(9, () => {
      for (const [code, response] of Object.entries(o.responses)) {
        w.message(1, () => {
          w.string(1, code);
          w.message(2, () =>
            w.message(1, () => {
              w.string(1, response.description);
              if (response.schema !== undefined)
                w.message(2, () => w.message(1, () => writeSchema(w, response.schema)));
            }),
          );
        });
      }
    });
    writeStrings(w, 10, o.schemes);
    writeExtensions(w, 13, o);
  });
}

const methods: readonly [Exclude<keyof PathItem, 'parameters'>, number][] = [
  ['get', 2],
  ['put', 3],
  ['post', 4],
  ['delete', 5],
  ['patch', 8],
];

export function encodeOpenApiV2(document: SwaggerDocument): Buffer {
  const w = new ProtobufWriter();
  w.string(1, document.swagger);
  w.message(2, () => {
    w.string(1, document.info.title);
    w.string(2, document.info.version);
  });
  w.message(8, () => {
    for (const [path, item] of Object.entries(document.paths)) {
      w.message(2, () => {
        w.string(1, path);
        w.message(2, () => {
          for (const [method, field] of methods) {
            const operation = item[method];
            if (operation !== undefined) writeOperation(w, field, operation);
          }
          for (const p of item.parameters) writeParameter(w, 9, p);
        });
      });
    }
  });
  w.message(9, () => writeNamedSchemas(w, 1, document.definitions));
  return w.finish();
}
