import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lexDockerfile } from './lexer.ts';
import { parseDockerfile, parseInstruction } from './parser.ts';
import { applyChanges } from './changes.ts';
import { applyConfig, parseDuration } from './config.ts';
import { expandRaw, expandWord, expandWords } from './words.ts';

const variables = (name: string): string | undefined =>
  ({ A: 'alpha', EMPTY: '', P: '/usr/local/bin/x.tar.gz' } as Record<string, string>)[name];

test('words are expanded as a shell would, with quotes and escapes', () => {
  const cases: [string, string][] = [
    ['$A', 'alpha'],
    ['${A}x', 'alphax'],
    ["'$A'", '$A'],
    ['"$A b"', 'alpha b'],
    ['\\$A', '$A'],
    ['${B:-none}', 'none'],
    ['${EMPTY:-none}', 'none'],
    ['${EMPTY-none}', ''],
    ['${A:+yes}', 'yes'],
    ['${B:+yes}', ''],
    ['${P##*/}', 'x.tar.gz'],
    ['${P#*/}', 'usr/local/bin/x.tar.gz'],
    ['${P%.*}', '/usr/local/bin/x.tar'],
    ['${P%%.*}', '/usr/local/bin/x'],
    ['${P//\\//_}', '_usr_local_bin_x.tar.gz'],
    ['${P/usr/opt}', '/opt/local/bin/x.tar.gz'],
    ['${B:-${A}}', 'alpha'],
    ['$', '$'],
    ['a$.b', 'a$.b'],
  ];
  for (const [text, expected] of cases) assert.equal(expandWord(text, variables), expected, text);
  assert.throws(() => expandWord('${B:?is needed}', variables), /B: is needed/);
  for (const text of ['${', '${}', "'open", '"open', '${A:*x}'])
    assert.throws(() => expandWord(text, variables), Error, text);
  assert.deepEqual(expandWords('a "b c" $A  d\\ e', variables), ['a', 'b c', 'alpha', 'd e']);
  assert.equal(expandRaw("echo \"$A\" '$A' it's \\$A \\\\ \\\n", variables), "echo \"alpha\" 'alpha' it's $A \\ \n");
});

test('comments, continuation lines and here-documents become logical lines', () => {
  const { lines } = lexDockerfile(
    '# comment\nFROM a\nRUN one \\\n  # inside\n\n  two\nRUN <<EOF\n# kept\nline\nEOF\nCOPY <<-"X" /x\n\t$A\nX\n',
  );
  assert.deepEqual(
    lines.map((line) => [line.line, line.text]),
    [
      [2, 'FROM a'],
      [3, 'RUN one   two'],
      [7, 'RUN <<EOF'],
      [11, 'COPY <<-"X" /x'],
    ],
  );
  assert.deepEqual(
    [lines[2]!.heredocs[0]!.content, lines[3]!.heredocs[0]!.content, lines[3]!.heredocs[0]!.isQuoted],
    ['# kept\nline\n', '$A\n', true],
  );
  assert.equal(lexDockerfile('# escape=`\nFROM a\nRUN x `\n y').lines[1]!.text, 'RUN x  y');
});

test('a shift that is no here-document is left alone', () => {
  for (const text of ['FROM a\nRUN echo $((1<<2))', 'FROM a\nRUN cat <<<"x"', 'FROM a\nRUN echo "<<EOF"'])
    assert.equal(lexDockerfile(text).lines[1]!.heredocs.length, 0, text);
});

test('errors name the line and say what BuildKit says', () => {
  const cases: [string, RegExp][] = [
    ['FROM a\nRUNN x', /dockerfile parse error on line 2: unknown instruction: RUNN \(did you mean RUN\?\)$/],
    ['', /cannot be empty/],
    ['# only', /cannot be empty/],
    ['RUN x', /line 1: no build stage in current context/],
    ['FROM', /FROM requires either one or three arguments/],
    ['FROM a b', /FROM requires either one or three arguments/],
    ['FROM a AS 1x', /invalid name for build stage/],
    ['FROM a\nCOPY x', /COPY requires at least two arguments/],
    ['FROM a\nCOPY --frm=x a b', /unknown flag: --frm \(did you mean from\?\)/],
    ['FROM a\nCOPY --from a b', /missing a value on flag: from/],
    ['FROM a\nENV x', /ENV must have two arguments/],
    ['FROM a\nSHELL sh', /SHELL requires the arguments to be in JSON form/],
    ['FROM a\nRUN <<EOF\nx', /unterminated heredoc/],
    ['FROM a\nONBUILD FROM b', /FROM isn't allowed as an ONBUILD trigger/],
    ['FROM a\nONBUILD ONBUILD RUN x', /Chaining ONBUILD/],
    ['FROM a\nHEALTHCHECK X', /Unknown type "X" in HEALTHCHECK/],
    ['FROM a\nCMD ["a", ["b"]]', /only string type is allowed in JSON array format/],
    ['# escape=x\nFROM a', /invalid ESCAPE 'x'/],
  ];
  for (const [text, expected] of cases) assert.throws(() => parseDockerfile(text), expected, text);
});

test('configuration instructions change what they say', () => {
  const apply = (text: string, config = {}): ReturnType<typeof applyConfig> =>
    applyConfig(config, parseInstruction(lexDockerfile(text).lines[0]!), { variables, escape: '\\' });
  assert.deepEqual(apply('ENV a=1 b="x y" c=$A'), { Env: ['a=1', 'b=x y', 'c=alpha'] });
  assert.deepEqual(apply('ENV a some words', { Env: ['a=old', 'z=1'] }), { Env: ['a=some words', 'z=1'] });
  assert.deepEqual(apply('EXPOSE 80 90-91/udp'), { ExposedPorts: { '80/tcp': {}, '90/udp': {}, '91/udp': {} } });
  assert.deepEqual(apply('CMD echo $A'), { Cmd: ['/bin/sh', '-c', 'echo $A'] });
  assert.deepEqual(apply('ENTRYPOINT ["a","b"]'), { Entrypoint: ['a', 'b'] });
  assert.deepEqual(apply('HEALTHCHECK --interval=5s --retries=2 CMD curl x'), {
    Healthcheck: { Test: ['CMD-SHELL', 'curl x'], Interval: 5e9, Retries: 2 },
  });
  assert.deepEqual(apply('VOLUME ["/a b"]'), { Volumes: { '/a b': {} } });
  assert.equal(parseDuration('1m30s', 1), 90e9);
  assert.throws(() => apply('EXPOSE 99999'), /invalid containerPort/);
  assert.deepEqual(apply('STOPSIGNAL SIGRTMIN+3'), { StopSignal: 'SIGRTMIN+3' });
  for (const bad of ['nope', '0', '99', 'SIGRTMIN+99'])
    assert.throws(() => apply(`STOPSIGNAL ${bad}`), /invalid signal/, bad);
});

test('JSON forms that docker expands are expanded, the others are not', () => {
  const apply = (text: string): ReturnType<typeof applyConfig> =>
    applyConfig({}, parseInstruction(lexDockerfile(text).lines[0]!), { variables, escape: '\\' });
  assert.deepEqual(apply('VOLUME ["/$A", "/b ${B:-c}"]'), { Volumes: { '/alpha': {}, '/b c': {} } });
  assert.deepEqual(apply('CMD ["$A"]'), { Cmd: ['$A'] });
  assert.deepEqual(apply('ENTRYPOINT ["$A"]'), { Entrypoint: ['$A'] });
  assert.deepEqual(apply('SHELL ["$A"]'), { Shell: ['$A'] });
  assert.deepEqual(apply('HEALTHCHECK CMD ["$A"]'), { Healthcheck: { Test: ['CMD', '$A'] } });
  assert.throws(() => apply('VOLUME ["$NONE"]'), /can not be an empty string/);
});

test('shell patterns in substitutions match as a shell does', () => {
  const cases: [string, string][] = [
    ['${P##*/*/}', 'x.tar.gz'],
    ['${P#*}', '/usr/local/bin/x.tar.gz'],
    ['${P##*}', ''],
    ['${P%/*}', '/usr/local/bin'],
    ['${P%%/*}', ''],
    ['${P%nothing}', '/usr/local/bin/x.tar.gz'],
    ['${P//[a]/b}', '/usr/local/bin/x.tar.gz'],
    ['${A//a/bb}', 'bblphbb'],
    ['${A/?/x}', 'xlpha'],
    ['${A//\\*/x}', 'alpha'],
    ['${A/*/x}', 'x'],
    ['${A//l*p/-}', 'a-ha'],
  ];
  for (const [text, expected] of cases) assert.equal(expandWord(text, variables), expected, text);
});

test('changes of a commit are a Dockerfile that needs no build', () => {
  const before = { Env: ['PATH=/bin'], Cmd: ['sh'], WorkingDir: '/srv' };
  assert.deepEqual(
    applyChanges(before, ['ENV PATH=$PATH:/x A=1\nENV B=$A', 'WORKDIR app', 'ONBUILD RUN make', 'LABEL a=$B']),
    {
      Env: ['PATH=/bin:/x', 'A=1', 'B=1'],
      Cmd: ['sh'],
      WorkingDir: '/srv/app',
      OnBuild: ['RUN make'],
      Labels: { a: '1' },
    },
  );
  assert.deepEqual(applyChanges(before, ['ENTRYPOINT ["a"]']), { ...before, Entrypoint: ['a'], Cmd: null });
  assert.deepEqual(applyChanges(before, ['CMD ["b"]', 'ENTRYPOINT ["a"]']).Cmd, ['b']);
  assert.deepEqual(applyChanges(before, []), before);
  for (const change of ['FROM x', 'RUN x', 'COPY a b', 'MAINTAINER me', 'ARG a', 'SHELL ["a"]'])
    assert.throws(
      () => applyChanges({}, [change]),
      new RegExp(`^ApiError: ${change.split(' ')[0]!.toLowerCase()} is not a valid change command`),
      change,
    );
  assert.throws(() => applyChanges({}, ['NOSUCH x']), /unknown instruction: NOSUCH/);
});
