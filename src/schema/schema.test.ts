import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { TestJson } from '#base/testing.ts';
import { testSeed } from '#os/test-seed.ts';
import { fieldOf, itemsOf } from '#base/unknown.ts';
import { defaultTemplate } from './defaults.ts';
import { FieldErrors } from './field-errors.ts';
import { compareFields, fieldsOf, fromFieldsV1, isEmptySet, mergeApplied, toFieldsV1 } from './field-sets.ts';
import { compileJsonPath } from './json-path.ts';
import { shortDuration } from './kind.ts';
import { builtInKinds } from './kinds.ts';
import { decodeMessage, unwrapMessage } from './protobuf-decode.ts';
import { encodeMessage, wrapMessage } from './protobuf.ts';
import { qosClassOf } from './qos.ts';
import { strategicMergePatch } from './strategic-merge.ts';
import { typeOf } from './types.ts';
import type { TypeNode } from './types.ts';
import { validatePodSpec } from './validate-pod.ts';

fc.configureGlobal({ seed: testSeed() });

/** Values of a type as a server would store them; depth is bounded because types refer to themselves. */
function valuesOf(type: TypeNode, depth: number): fc.Arbitrary<TestJson> {
  switch (type.kind) {
    case 'string':
      return fc.string({ minLength: 1, maxLength: 12 });
    case 'boolean':
      return fc.constant(true);
    case 'int32':
      return fc.integer().filter((n) => n !== 0);
    case 'int64':
      return fc.integer({ min: -1e15, max: 1e15 }).filter((n) => n !== 0);
    case 'double':
      return fc.integer({ min: 1, max: 1000 }).map((n) => n / 8);
    case 'bytes':
      return fc.uint8Array({ minLength: 1, maxLength: 20 }).map((b) => Buffer.from(b).toString('base64'));
    case 'time':
      return fc.integer({ min: 1, max: 4e9 }).map((s) => `${new Date(s * 1000).toISOString().slice(0, 19)}Z`);
    case 'microtime':
      return fc.integer({ min: 1, max: 4e9 }).map((s) => `${new Date(s * 1000).toISOString().slice(0, 19)}.123456Z`);
    case 'duration':
      return fc.constantFrom('1m0s', '15s', '1h30m0s');
    case 'quantity':
      return fc.constantFrom('1', '100m', '2Gi');
    case 'intstr':
      return fc.oneof(fc.integer({ min: 1, max: 65535 }), fc.constantFrom('http', '25%'));
    case 'any':
      return fc.constant({ any: ['thing', 1] });
    case 'union':
      return fc.oneof(...type.members.map((member) => valuesOf(member, depth + 1)));
    case 'list':
      return fc.array(valuesOf(type.item, depth + 1), { minLength: 1, maxLength: 2 });
    case 'map':
      return fc.dictionary(
        fc.string({ minLength: 1, maxLength: 5 }).filter((k) => k !== '__proto__'),
        valuesOf(type.item, depth + 1),
        { minKeys: 1, maxKeys: 2, noNullPrototype: true },
      );
    case 'object': {
      const fields = [...type.fields.values()].filter(
        (f) => f.number !== undefined && (depth < 3 || ['string', 'int32', 'boolean'].includes(f.type.kind)),
      );
      return fc
        .record(Object.fromEntries(fields.map((f) => [f.name, valuesOf(f.type, depth + 1)])), {
          requiredKeys: fields
            .filter((f) => f.required || !['object', 'list', 'map'].includes(f.type.kind))
            .map((f) => f.name),
          noNullPrototype: true,
        })
        .filter((o) => Object.keys(o).length > 0 || fields.length === 0);
    }
  }
}

/** Without empty objects: where the Go field is no pointer, an empty one is the same as none. */
function bare(value: TestJson): TestJson {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(bare);
  return Object.fromEntries(
    Object.entries(value)
      .map(([k, v]) => [k, bare(v)])
      .filter(([, v]) => typeof v !== 'object' || v === null || Array.isArray(v) || Object.keys(v).length > 0),
  );
}

describe('protobuf', () => {
  it('gives back what it was given, for every kind that can be stored', () => {
    for (const kind of builtInKinds) {
      if (!kind.verbs.includes('list')) continue;
      fc.assert(
        fc.property(valuesOf(kind.type, 0), (value) => {
          assert.deepEqual(bare(decodeMessage(kind.type, encodeMessage(kind.type, value))), bare(value));
        }),
        { numRuns: 4, seed: 1 },
      );
    }
  });

  it('refuses what is no message', () => {
    assert.throws(() => unwrapMessage(Buffer.from('{"kind":"Pod"}')), /expected prefix/);
    assert.throws(() => unwrapMessage(wrapMessage('v1', 'Pod', Buffer.from('x')).subarray(0, 12)), /unexpected EOF/);
    // A metadata of one byte whose number would go on in the spec behind it; a field skipped beyond its message.
    const type = typeOf('core.v1/Pod');
    assert.throws(() => decodeMessage(type, Buffer.of(0x0a, 1, 0x80, 0x12, 0)), /unexpected EOF/);
    assert.throws(() => decodeMessage(type, Buffer.of(0x0a, 2, 0xfd, 0x07, 0x12, 2, 0x0a, 0)), /unexpected EOF/);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          decodeMessage(typeOf('core.v1/Pod'), Buffer.from(bytes));
        } catch (error) {
          assert.ok(error instanceof Error);
        }
      }),
    );
  });
});

describe('records', () => {
  it('have types that exist, and names that clients can tell apart', () => {
    const seen = new Set<string>();
    for (const kind of builtInKinds) {
      assert.ok(kind.type.fields.size > 0, kind.kind);
      const key = `${kind.group}/${kind.version}/${kind.resource}`;
      assert.ok(!seen.has(key), key);
      seen.add(key);
    }
  });

  it('have columns that cope with empty objects', () => {
    for (const kind of builtInKinds)
      for (const column of kind.columns)
        column.value(
          { apiVersion: 'v1', kind: kind.kind, metadata: { name: 'x', creationTimestamp: '2030-01-01T00:00:00Z' } },
          Date.UTC(2030, 0, 2),
        );
  });

  it('default an empty object without failing', () => {
    for (const kind of builtInKinds) kind.defaults?.({ apiVersion: 'v1', kind: kind.kind, metadata: {} });
  });
});

describe('strategic merge patch', () => {
  const pod = typeOf('core.v1/Pod');
  const target = {
    spec: {
      containers: [{ name: 'a', image: '1', ports: [{ containerPort: 80 }] }, { name: 'b' }],
      tolerations: [{ key: 'x' }],
      nodeSelector: { a: 'b' },
    },
    metadata: { finalizers: ['one', 'two'] },
  };

  it('merges keyed lists, appends to sets, replaces atomic lists, and leaves the target alone', () => {
    const before = structuredClone(target);
    const out = strategicMergePatch(
      target,
      {
        spec: {
          containers: [{ name: 'b', image: '2' }, { name: 'c' }],
          tolerations: [{ key: 'y' }],
          nodeSelector: { a: null, c: 'd' },
        },
        metadata: { finalizers: ['three'], '$deleteFromPrimitiveList/finalizers': ['one'] },
      },
      pod,
    );
    assert.deepEqual(out, {
      spec: {
        containers: [
          { name: 'a', image: '1', ports: [{ containerPort: 80 }] },
          { name: 'b', image: '2' },
          { name: 'c' },
        ],
        tolerations: [{ key: 'y' }],
        nodeSelector: { c: 'd' },
      },
      metadata: { finalizers: ['three', 'two'] },
    });
    assert.deepEqual(target, before);
  });

  it('puts what a patch adds in front, unless the patch or the live list says where it goes', () => {
    const names = (current: string[], patch: TestJson[], order?: string[]): string =>
      itemsOf(
        fieldOf(
          strategicMergePatch(
            { spec: { containers: current.map((name) => ({ name })) } },
            {
              spec: {
                containers: patch.map((item) => (typeof item === 'string' ? { name: item } : item)),
                ...(order === undefined ? {} : { '$setElementOrder/containers': order.map((name) => ({ name })) }),
              },
            },
            pod,
          ),
          'spec',
          'containers',
        ),
      )
        .map((c) => fieldOf(c, 'name'))
        .join('');
    assert.equal(names(['c'], ['n']), 'nc');
    assert.equal(names(['a', 'b', 'c'], ['n', 'b']), 'nabc');
    assert.equal(names(['a', 'b', 'c'], ['b', 'n']), 'abnc');
    assert.equal(names(['a', 'b', 'c'], [{ name: 'b', $patch: 'delete' }, 'n']), 'nac');
    assert.equal(names(['a', 'b', 'c'], ['n'], ['c', 'n', 'a']), 'bcna');
    assert.equal(names(['a', 'b', 'c'], [], ['c', 'a']), 'bca');
    assert.throws(() => names(['a'], ['n', 'a'], ['a', 'n']), /doesn't match \$setElementOrder/);
    assert.throws(() => names(['a'], ['n'], ['a']), /doesn't match \$setElementOrder/);
  });

  it('takes directives', () => {
    assert.deepEqual(
      fieldOf(
        strategicMergePatch(target, { spec: { containers: [{ $patch: 'replace' }, { name: 'z' }] } }, pod),
        'spec',
        'containers',
      ),
      [{ name: 'z' }],
    );
    assert.deepEqual(
      fieldOf(
        strategicMergePatch(target, { spec: { nodeSelector: { $patch: 'replace', q: 'r' } } }, pod),
        'spec',
        'nodeSelector',
      ),
      { q: 'r' },
    );
    assert.throws(
      () => strategicMergePatch(target, { spec: { containers: [{ image: 'no name' }] } }, pod),
      /does not contain declared merge key: name/,
    );
  });
});

describe('field sets', () => {
  const node = typeOf('apps.v1/Deployment');
  const value = {
    spec: {
      replicas: 1,
      template: { spec: { containers: [{ name: 'c', image: 'i', ports: [{ containerPort: 80 }], args: ['x'] }] } },
    },
  };

  it('write and read the form of managedFields', () => {
    const container = ['f:spec', 'f:template', 'f:spec', 'f:containers', 'k:{"name":"c"}'];
    const set = fieldsOf(value, node);
    const json = toFieldsV1(set);
    assert.deepEqual(fieldOf(json, ...container, 'f:ports'), {
      'k:{"containerPort":80,"protocol":"TCP"}': { '.': {}, 'f:containerPort': {} },
    });
    assert.deepEqual(fieldOf(json, ...container, 'f:args'), {});
    assert.deepEqual(toFieldsV1(fromFieldsV1(json)), json);
  });

  it('compare finds nothing between equal values', () => {
    const { changed, removed } = compareFields(value, structuredClone(value), node);
    assert.ok(isEmptySet(changed) && isEmptySet(removed));
  });

  it('merging an applied configuration keeps the order it asks for', () => {
    const live = { spec: { template: { spec: { containers: [{ name: 'a' }, { name: 'live' }, { name: 'b' }] } } } };
    const merged = mergeApplied(
      live,
      { spec: { template: { spec: { containers: [{ name: 'b', image: '2' }, { name: 'new' }] } } } },
      node,
    );
    assert.deepEqual(fieldOf(merged, 'spec', 'template', 'spec', 'containers'), [
      { name: 'a' },
      { name: 'live' },
      { name: 'b', image: '2' },
      { name: 'new' },
    ]);
  });
});

describe('the order of merged lists', () => {
  const node = typeOf('core.v1/Pod');
  const names = (live: string[], applied: string[]): string =>
    itemsOf(
      fieldOf(
        mergeApplied(
          { spec: { containers: live.map((name) => ({ name })) } },
          { spec: { containers: applied.map((name) => ({ name })) } },
          node,
        ),
        'spec',
        'containers',
      ),
    )
      .map((container) => fieldOf(container, 'name'))
      .join('');

  it('puts what another manager applies behind what is there, and lets the applied list order what both have', () => {
    assert.equal(names(['a', 'b'], ['z']), 'abz');
    assert.equal(names(['a', 'b', 'c'], ['c', 'a']), 'bca');
    assert.equal(names(['a', 'b', 'c'], ['b', 'n', 'c']), 'abnc');
    assert.equal(names(['a', 'b', 'c'], ['n', 'a']), 'nabc');
    assert.equal(names([], ['b', 'a']), 'ba');
    assert.equal(names(['a', 'b'], ['b', 'a']), 'ba');
  });

  it('names each item once, whatever both lists hold', () => {
    const list = fc.uniqueArray(fc.constantFrom(...'abcdefgh'), { maxLength: 8 });
    fc.assert(
      fc.property(list, list, (live, applied) => {
        const out = names(live, applied);
        assert.deepEqual([...out].sort(), [...new Set([...live, ...applied])].sort());
        assert.deepEqual(
          [...out].filter((name) => applied.includes(name)),
          applied,
        );
      }),
    );
  });
});

describe('small things', () => {
  it("the columns of tables have upstream's names and order", () => {
    const columns = (kind: string): string =>
      builtInKinds
        .find((k) => `${k.kind}.${k.group}` === kind)!
        .columns.map((c) => `${c.name}${(c.priority ?? 0) > 0 ? '*' : ''}`)
        .join(' ');
    const expected: Record<string, string> = {
      'Node.': 'Name Status Roles Age Version Internal-IP* External-IP* OS-Image* Kernel-Version* Container-Runtime*',
      'ServiceAccount.': 'Name Age',
      'PodTemplate.': 'Name Containers Images Pod Labels',
      'PriorityClass.scheduling.k8s.io': 'Name Value Global-Default Age PreemptionPolicy',
      'IPAddress.networking.k8s.io': 'Name ParentRef',
      'CSIStorageCapacity.storage.k8s.io': 'Name Created At',
      'CSIDriver.storage.k8s.io':
        'Name AttachRequired PodInfoOnMount StorageCapacity TokenRequests RequiresRepublish Modes Age',
      'FlowSchema.flowcontrol.apiserver.k8s.io':
        'Name PriorityLevel MatchingPrecedence DistinguisherMethod Age MissingPL',
      'PriorityLevelConfiguration.flowcontrol.apiserver.k8s.io':
        'Name Type NominalConcurrencyShares Queues HandSize QueueLengthLimit Age',
      'DeviceClass.resource.k8s.io': 'Name Age',
      'DeviceTaintRule.resource.k8s.io': 'Name Key Value Effect TimeAdded Age',
      'ResourceClaimTemplate.resource.k8s.io': 'Name Age',
      'Event.events.k8s.io': 'Last Seen Type Reason Object Subobject* Source* Message First Seen* Count* Name*',
      'Event.': 'Last Seen Type Reason Object Subobject* Source* Message First Seen* Count* Name*',
    };
    for (const [kind, names] of Object.entries(expected)) assert.equal(columns(kind), names, kind);
  });

  it('durations are short', () => {
    const cases: [number, string][] = [
      [5, '5s'],
      [119, '119s'],
      [125, '2m5s'],
      [600, '10m'],
      [10_800, '3h'],
      [11_000, '3h3m'],
      [172_799, '47h'],
      [172_800, '2d'],
      [86_400 * 9, '9d'],
      [86_400 * 800, '2y70d'],
    ];
    for (const [seconds, text] of cases) assert.equal(shortDuration(seconds * 1000), text);
  });

  it('quality of service follows requests and limits', () => {
    const pod = (resources: TestJson) => ({ containers: [{ resources }] });
    assert.deepEqual(
      [
        qosClassOf(pod({})),
        qosClassOf(pod({ requests: { cpu: '1' } })),
        qosClassOf(pod({ requests: { cpu: '1', memory: '1Gi' }, limits: { cpu: '1', memory: '1Gi' } })),
      ],
      ['BestEffort', 'Burstable', 'Guaranteed'],
    );
  });

  it('JSON paths of printer columns select values', () => {
    const object = {
      spec: { a: { 'b.c': 1 } },
      status: {
        conditions: [
          { type: 'Ready', status: 'True' },
          { type: 'Other', status: 'False' },
        ],
        list: [1, 2],
      },
      metadata: { annotations: { 'x.y/z': 'q' } },
    };
    const read = (path: string) => compileJsonPath(path)(object);
    assert.deepEqual(
      [
        read('.spec.a.b\\.c'),
        read('.status.conditions[?(@.type=="Ready")].status'),
        read('.status.list[*]'),
        read('.status.list[-1]'),
        read(".metadata.annotations['x.y/z']"),
        read('.none.at.all'),
      ],
      [[1], ['True'], [1, 2], [2], ['q'], []],
    );
  });
});

describe('seccomp profiles of a Pod', () => {
  it('name a file where they are Localhost, and nowhere else', () => {
    const problems = (seccompProfile: TestJson): string[] =>
      [
        { securityContext: { seccompProfile }, containers: [{ name: 'c', image: 'i' }] },
        { containers: [{ name: 'c', image: 'i', securityContext: { seccompProfile } }] },
      ].map((spec) => {
        const errors = new FieldErrors();
        defaultTemplate({ spec });
        validatePodSpec(spec, 'spec', errors);
        return errors.causes
          .map(({ field, message }) => `${String(field).replace(/^.*seccompProfile/, '')} ${message}`)
          .join();
      });
    for (const fine of [
      { type: 'RuntimeDefault' },
      { type: 'Unconfined' },
      { type: 'Localhost', localhostProfile: 'a/b.json' },
    ])
      assert.deepEqual(problems(fine), ['', '']);
    for (const [profile, pattern] of [
      [{}, /\.type Required/],
      [{ type: 'X' }, /\.type Unsupported/],
      [{ type: 'Localhost' }, /\.localhostProfile Required/],
      [{ type: 'Localhost', localhostProfile: '/a' }, /relative path/],
      [{ type: 'Localhost', localhostProfile: 'a/../../b' }, /must not contain/],
      [{ type: 'RuntimeDefault', localhostProfile: 'a' }, /only be set when/],
    ] as [TestJson, RegExp][]) {
      for (const problem of problems(profile)) assert.match(problem, pattern);
    }
  });
});

describe('sysctls of a Pod', () => {
  it("are checked for their form, for doubles, and for the host's namespaces", () => {
    const problems = (names: string[], spec: TestJson = {}): string[] => {
      const errors = new FieldErrors();
      const whole = {
        containers: [{ name: 'c', image: 'i' }],
        securityContext: { sysctls: names.map((name) => ({ name, value: '1' })) },
        ...spec,
      };
      defaultTemplate({ spec: whole });
      validatePodSpec(whole, 'spec', errors);
      return errors.causes.map(({ field, message }) => `${field}: ${message}`);
    };
    assert.deepEqual(
      problems(['kernel.msgmax', 'net/ipv4/ip_forward']),
      [],
      "which a node allows is not the API server's to say",
    );
    assert.match(
      problems(['Bad Name'])[0]!,
      /^spec\.securityContext\.sysctls\[0\]\.name: Invalid value: "Bad Name": must have at most 253 characters and match regex \^/,
    );
    assert.match(problems(['a', 'a'])[0]!, /sysctls\[1\]\.name: Duplicate value: "a"/);
    assert.match(problems([''])[0]!, /Required value/);
    assert.match(
      problems(['net.ipv4.tcp_syncookies'], { hostNetwork: true })[0]!,
      /may not be specified when 'hostNetwork' is true/,
    );
    assert.match(problems(['kernel.sem'], { hostIPC: true })[0]!, /may not be specified when 'hostIPC' is true/);
  });
});
