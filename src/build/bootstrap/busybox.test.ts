import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { wgetScript } from './busybox.ts';

test('wget of the image takes -T in every form and leaves all other words as they are', () => {
  const home = mkdtempSync('/tmp/tiphys-wget-');
  const program = (name: string, text: string): void => {
    writeFileSync(`${home}/${name}`, text);
    chmodSync(`${home}/${name}`, 0o755);
  };
  try {
    program(
      'busybox',
      '#!/bin/sh\nfor word do printf "<%s>" "$word"; done\ncase "$*" in *slow*) exec sleep 5 ;; *bad*) exit 4 ;; esac\n',
    );
    program('wget', wgetScript);
    const wget = (...args: string[]): string => {
      const { status, stdout, stderr } = spawnSync(`${home}/wget`, args, {
        env: { PATH: `${home}:/usr/bin:/bin` },
        encoding: 'utf8',
      });
      return `${stdout} ${status} ${stderr.trim()}`.trim();
    };
    assert.equal(wget('-qO-', 'http://a b'), '<wget><-qO-><http://a b> 0');
    for (const args of [['-T', '9'], ['-T9'], ['--timeout=9'], ['--timeout', '9']])
      assert.equal(wget('-q', ...args, '-O', '-', 'u'), '<wget><-q><-O><-><u> 0', args.join());
    assert.equal(wget('-qT', '9', 'u'), '<wget><-q><u> 0');
    assert.equal(
      wget('-O', '-T', '--header', '-T: 1', '--post-data', '', 'u'),
      '<wget><-O><-T><--header><-T: 1><--post-data><><u> 0',
    );
    assert.equal(wget('-qO-', '-T', '0.1', 'slow'), '<wget><-qO-><slow> 1 wget: download timed out');
    assert.equal(wget('-T', '9', 'bad'), '<wget><bad> 4');
    assert.equal(wget(), '<wget> 0');
  } finally {
    rmSync(home, { recursive: true });
  }
});
