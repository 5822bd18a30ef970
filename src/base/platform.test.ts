import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatPlatform, parsePlatform, platformFit } from './platform.ts';

test('platforms are read in every spelling', () => {
  const cases: [string, string][] = [
    ['linux/amd64', 'linux/amd64'],
    ['x86_64', 'linux/amd64'],
    ['linux/aarch64', 'linux/arm64'],
    ['linux/arm64/v8', 'linux/arm64'],
    ['arm', 'linux/arm/v7'],
    ['linux/armhf', 'linux/arm/v7'],
    ['linux/arm/v6', 'linux/arm/v6'],
    ['Linux/S390X', 'linux/s390x'],
    ['windows/amd64', 'windows/amd64'],
    ['windows(10.0.20348.1006)/amd64', 'windows(10.0.20348.1006)/amd64'],
    ['Windows(1%2B2)/arm', 'windows(1%2B2)/arm/v7'],
    ['windows()/amd64', 'windows/amd64'],
  ];
  for (const [text, expected] of cases) assert.equal(formatPlatform(parsePlatform(text)), expected, text);
  for (const text of [
    '',
    'nonsense',
    'linux/',
    'a/b/c/d',
    'linux/a b',
    'windows(1/amd64',
    'windows(%)/amd64',
    'a/b(1)',
  ])
    assert.throws(() => parsePlatform(text), /invalid argument/, text);
});

test('the nearest platform fits best, and another architecture not at all', () => {
  const fit = (wanted: string, have: string): number => platformFit(parsePlatform(wanted), parsePlatform(have));
  assert.ok(
    fit('linux/arm/v7', 'linux/arm/v7') > fit('linux/arm/v7', 'linux/arm/v6') &&
      fit('linux/arm/v7', 'linux/arm/v6') > fit('linux/arm/v7', 'linux/arm/v5'),
  );
  assert.deepEqual(
    [
      fit('linux/arm/v6', 'linux/arm/v7'),
      fit('linux/amd64', 'linux/arm64'),
      fit('linux/amd64', 'windows/amd64'),
      fit('linux/amd64', 'linux/amd64/v3'),
    ],
    [0, 0, 0, 0],
  );
});

test('an image for one build of Windows does not run on another', () => {
  const fit = (wanted: string, have: string): number => platformFit(parsePlatform(wanted), parsePlatform(have));
  assert.equal(fit('windows(1.2.3)/amd64', 'windows(1.1.0)/amd64'), 0);
  for (const [wanted, have] of [
    ['windows(1.2.3)/amd64', 'windows(1.2.3)/amd64'],
    ['windows/amd64', 'windows(1.2.3)/amd64'],
    ['windows(1.2.3)/amd64', 'windows/amd64'],
    ['linux(1)/amd64', 'linux(2)/amd64'],
  ] as const)
    assert.ok(fit(wanted, have) > 0, `${wanted} ${have}`);
});
