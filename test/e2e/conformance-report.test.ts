/** What `conformance/kubernetes` reads of a report: every test of the part, one after the other, and nothing twice. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readReport } from '../../conformance/kubernetes/parts.ts';

const line = (name: string, status: string, inner = ''): string =>
  `<testcase name="${name}" classname="suite" status="${status}" time="0.1">${inner}</testcase>`;

test('a report is read test by test: passed, failed, skipped by themselves, and left out', () => {
  const report = readReport(
    [
      '<testsuite>',
      line('[SynchronizedBeforeSuite]', 'passed'),
      line('[It] a &lt;1&gt; [Conformance]', 'passed'),
      line('[It] b [Conformance]', 'passed'),
      line('[It] c &#34;c&#34; [Conformance]', 'failed', '\n<failure message="no"></failure>'),
      line('[It] d [Conformance]', 'skipped', '\n<skipped message="skipped - needs a cloud"></skipped>'),
      line('[It] not chosen [Conformance]', 'skipped', '<skipped message="skipped"></skipped>'),
      line('[It] e [Conformance]', 'passed'),
      '</testsuite>',
    ].join('\n'),
  );
  assert.deepEqual(report, {
    passed: ['a <1> [Conformance]', 'b [Conformance]', 'e [Conformance]'],
    failed: ['c "c" [Conformance]'],
    skipped: ['d [Conformance]'],
    interrupted: false,
  });
  const cut = readReport(line('[It] a [Conformance]', 'timedout') + line('[AfterSuite]', 'failed'));
  assert.deepEqual(cut, { passed: [], failed: ['a [Conformance]', '[AfterSuite]'], skipped: [], interrupted: true });
});
