import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hostPlatform } from '#base/platform.ts';
import { Conversion } from './convert.ts';
import { Lint, parseLintSettings, shortText, urlOf } from './lint.ts';
import { lintInstruction } from './lint-file.ts';
import { makeVertex } from '../llb/codec.ts';
import { createIgnoreRules } from '../patterns.ts';
import { parseDockerfile } from './parser.ts';

async function lint(text: string, settings = '', ignored: string[] = []): Promise<string[]> {
  const found = new Lint(parseLintSettings(settings));
  const file = parseDockerfile(text, (instruction) => lintInstruction(found, instruction));
  const { os, architecture } = hostPlatform();
  const conversion = new Conversion(
    file,
    {
      buildArgs: { IMAGE: 'a' },
      labels: {},
      noCache: false,
      network: 'sandbox',
      extraHosts: [],
      ulimits: [],
      hostname: '',
      isClassic: false,
      cacheNamespace: '',
      lint: found,
    },
    {
      named: async () => undefined,
      imageConfig: async () => ({ os, architecture, config: {}, rootfs: { type: 'layers', diff_ids: [] } }),
      context: async () => ({
        vertex: makeVertex({ kind: 'source', identifier: 'local://context', attributes: {} }, [], { name: 'context' }),
        output: 0,
      }),
      ignored: async () =>
        ignored.length === 0 ? undefined : { rules: createIgnoreRules(ignored), patterns: ignored },
    },
  );
  for (const stage of file.stages) await conversion.build(stage);
  return found.found.map((each) => shortText(each));
}

test('each check finds what it is for, and says it as BuildKit does', async () => {
  for (const [text, expected] of [
    [
      'FROM a\nCMD x\n',
      'JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 2)',
    ],
    ['FROM a as b\n', "FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)"],
    ['FROM a AS Bc\n', "StageNameCasing: Stage name 'Bc' should be lowercase (line 1)"],
    [
      'FROM a AS b\nFROM a AS b\n',
      'DuplicateStageName: Duplicate stage name "b", stage names should be unique (line 2)',
    ],
    [
      'FROM a AS scratch\n',
      'ReservedStageName: Stage name should not use the same name as reserved stage "scratch" (line 1)',
    ],
    [
      'FROM a\nrun x\nENV a=b\n',
      "ConsistentInstructionCasing: Command 'run' should match the case of the command majority (uppercase) (line 2)",
    ],
    [
      'FROM a\nMAINTAINER me\n',
      'MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 2)',
    ],
    [
      'FROM a\nENV a b\n',
      'LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" format (line 2)',
    ],
    [
      'FROM a\nWORKDIR x\n',
      'WorkdirRelativePath: Relative workdir "x" can have unexpected results if the base image changes (line 2)',
    ],
    [
      'FROM a\nENV DB_PASSWORD=x\n',
      'SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV "DB_PASSWORD") (line 2)',
    ],
    [
      'FROM a\nCMD ["x"]\nCMD ["y"]\n',
      'MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used (line 2)',
    ],
    ['FROM a$X\n', "UndefinedArgInFrom: FROM argument 'X' is not declared (line 1)"],
    [
      'FROM --platform=linux/amd64 a\n',
      'FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value "linux/amd64" (line 1)',
    ],
    [
      'FROM --platform=$TARGETPLATFORM a\n',
      'RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior (line 1)',
    ],
    [
      'FROM a\nEXPOSE 80/TCP\n',
      "ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase (line 2)",
    ],
    ['FROM a\nRUN x \\\n\n  y\n', 'NoEmptyContinuation: Empty continuation line (line 4)'],
    [
      'FROM a\nENV DIRECTORY=/x\nCOPY $DIRECTROY .\n',
      "UndefinedVar: Usage of undefined variable '$DIRECTROY' (did you mean $DIRECTORY?) (line 3)",
    ],
    [
      'ARG IMAGE\nFROM $IMAGE\n',
      'InvalidDefaultArgInFrom: Default value for ARG $IMAGE results in empty or invalid base image name (line 2)',
    ],
    [
      'FROM a\nEXPOSE 127.0.0.1:80:80\n',
      "ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80' (line 2)",
    ],
  ] as const)
    assert.deepEqual(await lint(text), [expected]);
});

test('files that are left out of the context are not copied unnoticed', async () => {
  const text = 'FROM scratch\nCOPY a/x b /\nADD . /c/\nCOPY --from=d b /\n';
  const copied = 'CopyIgnoredFile: Attempting to Copy file "a/x" that is excluded by .dockerignore (line 2)';
  assert.deepEqual(await lint(text, '', ['a']), [copied]);
  assert.deepEqual(await lint(text, '', ['a', '!a/y']), []);
  assert.deepEqual(
    (await lint(text, '', ['*'])).at(-1),
    'CopyIgnoredFile: Attempting to Add file "." that is excluded by .dockerignore (line 3)',
  );
});

test('comments before an instruction leave checks out for it alone, and describe where that is asked for', async () => {
  const text =
    '# check=experimental=all\n# x y\nFROM a AS b\n# check=skip=SecretsUsedInArgOrEnv\nENV A_KEY=1\nENV B_KEY=1\n';
  assert.deepEqual(await lint(text, 'experimental=InvalidDefinitionDescription'), [
    'InvalidDefinitionDescription: Comment for FROM should follow the format: `# b <description>` (line 3)',
    'SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV "B_KEY") (line 6)',
  ]);
  assert.equal((await lint(text)).length, 1);
});

test('what is well written is not complained of', async () => {
  const text =
    'ARG V=1\nFROM a:$V AS b\nSHELL ["/bin/bash", "-c"]\nCMD x\nWORKDIR /a\nWORKDIR b\nARG PUBLIC_KEY\nENV a=b\nFROM b\nWORKDIR c\nCMD ["y"]\nARG B\nFROM b\nEXPOSE 80/tcp $X\nFROM a AS c\nARG D=x\nFROM c\nCOPY $D /\n';
  assert.deepEqual(await lint(text), []);
});

test('checks are left out by name, in the file or for a build', async () => {
  const text = '# check=skip=JSONArgsRecommended;error=true\nFROM a as b\nCMD x\n';
  assert.equal(parseDockerfile(text).directives['check'], 'skip=JSONArgsRecommended;error=true');
  assert.equal((await lint(text, 'skip=JSONArgsRecommended')).length, 1);
  assert.deepEqual(await lint(text, 'skip=all'), []);
  assert.equal(parseLintSettings('error=true').isError, true);
  assert.throws(() => parseLintSettings('what=x'), /invalid check option "what"/);
  assert.equal(urlOf('JSONArgsRecommended'), 'https://docs.docker.com/go/dockerfile/rule/json-args-recommended/');
});
