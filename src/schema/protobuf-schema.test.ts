import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { checkObject } from './check.ts';
import { decodeMessage } from './protobuf-decode.ts';
import { encodeMessage } from './protobuf.ts';
import { typeOf } from './types.ts';

const schemaType = typeOf('apiextensions.v1/JSONSchemaProps');

/** A schema that has each of the unions in each of its forms. */
const schema = {
  items: [{ type: 'string' }, { type: 'integer' }],
  additionalItems: false,
  additionalProperties: true,
  dependencies: { a: ['b', 'c'], d: { type: 'object', required: ['e'] } },
  properties: {
    f: {
      items: { type: 'string' },
      additionalItems: { type: 'boolean' },
      additionalProperties: { maxLength: 4 },
      example: { g: [null] },
    },
  },
  default: false,
  enum: [null, 0, ''],
};

/** What Go's `Marshal` of apiextensions-apiserver 0.37 makes of that schema: it writes empty texts and false, too. */
const bytesOfGo = Buffer.from(
  `0a00120022002a0032003a0042070a0566616c7365500060007a00900100a20100a201030a0130a201040a022222c2014d12240a001200220
02a06737472696e6732003a00500060007a00900100a80200b80200c0020012250a00120022002a07696e746567657232003a00500060007a00900
100a80200b80200c00200ea01b1010a016612ab010a00120022002a0032003a00500060007a00900100c201260a240a00120022002a06737472696
e6732003a00500060007a00900100a80200b80200c00200f20124080112200a00120022002a0032003a005000600068047a00900100a80200b8020
0c002008a0229080112250a00120022002a07626f6f6c65616e32003a00500060007a00900100a80200b80200c00200a2020e0a0c7b2267223a5b6
e756c6c5d7da80200b80200c00200f20102080182020b0a0161120612016212016382022f0a0164122a0a280a00120022002a066f626a656374320
03a00500060007a00900100ba010165a80200b80200c002008a02020800a80200b80200c00200`.replaceAll('\n', ''),
  'hex',
);

describe('schemas of custom resources in protobuf', () => {
  it('are read as Go writes them', () => {
    assert.deepEqual(decodeMessage(schemaType, bytesOfGo), schema);
  });

  it('have a message of its own for what may be a schema or something else', () => {
    const cases: [object, string][] = [
      // items: field 24; its schema is field 1, its list field 2.
      [{ items: { type: 'x' } }, 'c20105 0a03 2a0178'],
      [{ items: [{ type: 'x' }, {}] }, 'c20107 1203 2a0178 1200'],
      // additionalProperties: field 30; its boolean is field 1, always there, its schema field 2.
      [{ additionalProperties: false }, 'f20102 0800'],
      [{ additionalProperties: true }, 'f20102 0801'],
      [{ additionalProperties: { type: 'x' } }, 'f20107 0801 1203 2a0178'],
      [{ additionalItems: { items: {} } }, '8a0209 0801 1205 c20102 0a00'],
      // dependencies: field 32, a map; schema field 1, names field 2.
      [{ dependencies: { k: ['y', 'z'] } }, '82020b 0a016b 1206 120179 12017a'],
      [{ dependencies: { k: { type: 'x' } } }, '82020a 0a016b 1205 0a03 2a0178'],
      // default: field 8, enum: field 20, example: field 36: JSON as bytes in field 1.
      [{ default: 7 }, '4203 0a0137'],
      [{ enum: ['a'], example: {} }, 'a20105 0a0322 6122 a20204 0a027b7d'],
    ];
    for (const [value, hex] of cases) {
      const bytes = hex.replaceAll(' ', '');
      assert.equal(encodeMessage(schemaType, value).toString('hex'), bytes, JSON.stringify(value));
      assert.deepEqual(decodeMessage(schemaType, Buffer.from(bytes, 'hex')), value);
    }
  });

  it('come back as they were', () => {
    assert.deepEqual(decodeMessage(schemaType, encodeMessage(schemaType, schema)), schema);
  });

  it('lose without a word what no schema has, where they may be something else', () => {
    const sent = {
      items: { type: 'string', colour: 'red' },
      additionalProperties: { properties: { a: { shape: 1, type: 'string' } } },
      dependencies: { b: 3 },
    };
    assert.deepEqual(
      [checkObject(sent, schemaType), sent],
      [
        { unknown: [], error: undefined, formError: undefined },
        {
          items: { type: 'string' },
          additionalProperties: { properties: { a: { type: 'string' } } },
          dependencies: { b: null },
        },
      ],
    );
    assert.equal(checkObject({ additionalProperties: 'no' }, schemaType).error, 'boolean or JSON schema expected');
    assert.match(checkObject({ items: { type: 3 } }, schemaType).error!, /JSONSchemaProps\.items\.type of type string/);
  });
});
