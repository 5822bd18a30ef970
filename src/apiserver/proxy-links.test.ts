import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LinkRewriter, proxiedUrl } from './proxy-links.ts';

const prefix = '/api/v1/namespaces/n/pods/http:p:80/proxy';
const page = { prefix, hosts: ['10.0.0.9:80', 'here:6443'] };

test('a path and a URL of the page’s own server are led through the proxy, and nothing else is', () => {
  assert.equal(proxiedUrl('/x?q=/y#z', page), `${prefix}/x?q=/y#z`);
  assert.equal(proxiedUrl('http://10.0.0.9:80/x', page), `${prefix}/x`);
  assert.equal(proxiedUrl('//here:6443/x/', page), `${prefix}/x/`);
  assert.equal(proxiedUrl(`https://here:6443${prefix}/x`, page), `${prefix}/x`);
  for (const same of ['x', '../x', '#top', 'mailto:a@b', 'http://elsewhere/x', '//elsewhere/x', `${prefix}/x`])
    assert.equal(proxiedUrl(same, page), same);
});

/** The page as it comes out when it goes in by pieces of `size` bytes. */
async function rewrite(html: string, size: number): Promise<string> {
  const rewriter = new LinkRewriter(page);
  const bytes = Buffer.from(html);
  for (let at = 0; at < bytes.length; at += size) rewriter.write(bytes.subarray(at, at + size));
  rewriter.end();
  const out: Buffer[] = [];
  for await (const chunk of rewriter) out.push(chunk as Buffer);
  return Buffer.concat(out).toString();
}

test('links of a page are rewritten wherever its pieces are cut; all else stays byte for byte', async () => {
  const cases: [string, string][] = [
    ['<a href="/x">é</a>', `<a href="${prefix}/x">é</a>`],
    ["<A class=b HREF='/x' >", `<A class=b HREF='${prefix}/x' >`],
    ['<img src=/x alt="a > b">', `<img src=${prefix}/x alt="a > b">`],
    ['<link href="/a.css"/><p title="/x">1 < 2', `<link href="${prefix}/a.css"/><p title="/x">1 < 2`],
    ['<!-- <a href="/x"> --><a href="/y">', `<!-- <a href="/x"> --><a href="${prefix}/y">`],
    [
      '<script src="/s.js">"<a href=\'/x\'>"</script><a href="/y">',
      `<script src="${prefix}/s.js">"<a href='/x'>"</script><a href="${prefix}/y">`,
    ],
    ['<a href="/never ends', '<a href="/never ends'],
    ['a <', 'a <'],
    ['<!doctype html><constructor href="/x">', '<!doctype html><constructor href="/x">'],
  ];
  for (const [html, wanted] of cases)
    for (const size of [1, 2, 3, 7, 1000]) assert.equal(await rewrite(html, size), wanted, `${size}: ${html}`);
});
