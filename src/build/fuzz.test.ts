/** Whatever a client sends is taken or refused in words: a Dockerfile, a definition, a message. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ApiError } from '#base/errors.ts';
import { hostPlatform } from '#base/platform.ts';
import { testSeed } from '#os/test-seed.ts';
import { Conversion } from './dockerfile/convert.ts';
import { lintInstruction } from './dockerfile/lint-file.ts';
import { Lint, parseLintSettings } from './dockerfile/lint.ts';
import { parseDockerfile } from './dockerfile/parser.ts';
import { gitSource } from './git-url.ts';
import { decodeMessage, encodeMessage } from './grpc/messages.ts';
import { decodeDefinition, encodeDefinition, makeVertex } from './llb/codec.ts';
import { plainExec, rootMount } from './llb/vertex-parts.ts';
import type { Edge, ExecOp } from './llb/vertex.ts';

const seed = testSeed();
fc.configureGlobal({ seed });
const numRuns = 400;

/** Runs what may refuse. */
async function mayRefuse(work: () => unknown): Promise<void> {
  try {
    await work();
  } catch (error) {
    assert.ok(
      error instanceof ApiError,
      `seed ${seed}: ${String(error)}\n${error instanceof Error ? error.stack : ''}`,
    );
  }
}

const source: Edge = {
  vertex: makeVertex({ kind: 'source', identifier: 'docker-image://a', attributes: { b: 'c' } }, [], { name: 'a' }),
  output: 0,
};
const exec: ExecOp = {
  ...plainExec,
  args: ['x'],
  env: ['A=b'],
  extraHosts: ['h:1.2.3.4'],
  mounts: [{ ...rootMount, input: 0 }],
};
const step: Edge = { vertex: makeVertex(exec, [source], { name: 'x' }), output: 0 };
const whole: Edge = { vertex: makeVertex({ kind: 'merge' }, [source, step], { name: 'm' }), output: 0 };

/** Bytes of which some are others, and some are not there. */
function broken(bytes: Uint8Array): fc.Arbitrary<Uint8Array> {
  const change = fc.record({ at: fc.nat(Math.max(0, bytes.length - 1)), byte: fc.nat(255), cut: fc.nat(9) });
  return fc.array(change, { minLength: 1, maxLength: 6 }).map((changes) => {
    let out = Buffer.from(bytes);
    for (const { at, byte, cut } of changes) {
      if (cut === 0) out = out.subarray(0, at);
      else if (at < out.length) out[at] = byte;
    }
    return out;
  });
}

test('definitions whose bytes are changed are read or refused', async () => {
  const parts = encodeDefinition(whole)['def'] as Uint8Array[];
  const arbitrary = fc.tuple(...parts.map((part) => fc.oneof(fc.constant(part), broken(part))));
  await fc.assert(
    fc.asyncProperty(arbitrary, (def) =>
      mayRefuse(() => {
        const edge = decodeDefinition({ def });
        if (edge !== undefined) encodeDefinition(edge);
      }),
    ),
    { numRuns },
  );
});

test('messages of any bytes are read or refused', async () => {
  const request = encodeMessage('moby.buildkit.v1.SolveRequest', {
    Ref: 'r',
    Frontend: 'dockerfile.v0',
    FrontendAttrs: { a: 'b' },
    Definition: encodeDefinition(step),
  });
  await fc.assert(
    fc.asyncProperty(fc.oneof(broken(request), fc.uint8Array({ maxLength: 200 })), (bytes) =>
      mayRefuse(() => decodeMessage('moby.buildkit.v1.SolveRequest', Buffer.from(bytes))),
    ),
    { numRuns },
  );
});

const word = fc.oneof(
  fc.constantFrom(
    'a',
    'b',
    '$X',
    '${X:-y}',
    '${X',
    '"q w"',
    "'",
    '"',
    '\\',
    '--from=b',
    '--mount=type=cache,target=/c',
  ),
  fc.constantFrom(
    '--chmod=7',
    '--link',
    '["x"]',
    '[',
    '<<EOF',
    'EOF',
    '/x/./y',
    'K=v',
    'https://h/r.git?tag=1',
    'as',
    '#',
  ),
  fc.string({ maxLength: 8 }),
);
const keyword = fc.constantFrom(
  ...'FROM RUN COPY ADD ENV ARG LABEL CMD ENTRYPOINT WORKDIR USER VOLUME EXPOSE SHELL ONBUILD HEALTHCHECK STOPSIGNAL'.split(
    ' ',
  ),
);
const line = fc.tuple(keyword, fc.array(word, { maxLength: 5 })).map(([first, rest]) => [first, ...rest].join(' '));

test('Dockerfiles of any words become a graph, or are refused', async () => {
  const { os, architecture } = hostPlatform();
  await fc.assert(
    fc.asyncProperty(fc.array(line, { maxLength: 8 }), (lines) =>
      mayRefuse(async () => {
        const lint = new Lint(parseLintSettings(''));
        const text = `FROM a AS b\n${lines.join('\n')}\n`;
        const file = parseDockerfile(text, (instruction) => lintInstruction(lint, instruction));
        const conversion = new Conversion(
          file,
          {
            buildArgs: {},
            labels: {},
            noCache: false,
            network: 'sandbox',
            extraHosts: [],
            ulimits: [],
            hostname: '',
            isClassic: false,
            cacheNamespace: '',
            lint,
          },
          {
            named: async () => undefined,
            imageConfig: async () => ({ os, architecture, config: {}, rootfs: { type: 'layers', diff_ids: [] } }),
            context: async () => source,
          },
        );
        for (const stage of file.stages) await conversion.build(stage);
      }),
    ),
    { numRuns },
  );
});

test('URLs of repositories are read or refused', async () => {
  await fc.assert(
    fc.asyncProperty(fc.string({ maxLength: 60 }), (text) => mayRefuse(() => gitSource(`https://h/r.git?${text}`))),
    { numRuns },
  );
});
