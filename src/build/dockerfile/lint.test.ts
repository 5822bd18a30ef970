import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lintDockerfile, parseLintSettings, shortText, urlOf } from './lint.ts';
import { parseDockerfile } from './parser.ts';

function lint(text: string, settings = ''): string[] {
  return lintDockerfile(parseDockerfile(text), parseLintSettings(settings)).map((each) => shortText(each));
}

test('each check finds what it is for, and says it as BuildKit does', () => {
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
    ['FROM $X\n', "UndefinedArgInFrom: FROM argument 'X' is not declared (line 1)"],
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
    ['FROM a\nRUN x \\\n\n  y\n', 'NoEmptyContinuation: Empty continuation line (line 3)'],
  ] as const)
    assert.deepEqual(lint(text), [expected]);
});

test('what is well written is not complained of', () => {
  const text =
    'ARG V=1\nFROM a:$V AS b\nSHELL ["/bin/bash", "-c"]\nCMD x\nWORKDIR /a\nWORKDIR b\nARG PUBLIC_KEY\nENV a=b\nFROM b\nWORKDIR c\nCMD ["y"]\nFROM scratch\nWORKDIR x\nFROM ${B:-a}\n';
  assert.deepEqual(lint(text), []);
});

test('checks are left out by name, in the file or for a build', () => {
  const text = '# check=skip=JSONArgsRecommended;error=true\nFROM a as b\nCMD x\n';
  assert.equal(parseDockerfile(text).directives['check'], 'skip=JSONArgsRecommended;error=true');
  assert.equal(lint(text, 'skip=JSONArgsRecommended').length, 1);
  assert.deepEqual(lint(text, 'skip=all'), []);
  assert.equal(parseLintSettings('error=true').isError, true);
  assert.throws(() => parseLintSettings('what=x'), /invalid check option "what"/);
  assert.equal(urlOf('JSONArgsRecommended'), 'https://docs.docker.com/go/dockerfile/rule/json-args-recommended/');
});
