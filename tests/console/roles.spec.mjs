// With tokens: who may see and press what.
import { createHash } from 'node:crypto';
import AxeBuilder from '@axe-core/playwright';
import { expect, test } from '@playwright/test';
import { Service, seed } from './service.mjs';

let service;
const READER = 'reader-of-the-console-tests-0123456789';
const ROOT = 'root-of-the-console-tests-0123456789';

test.beforeAll(async () => {
  const token = (name, secret, roles) => `[[auth.tokens]]\nname = "${name}"\nsha256 = "${createHash('sha256').update(secret).digest('hex')}"\nroles = [${roles.map((r) => `"${r}"`)}]\n`;
  service = await Service.start(token('rita', READER, ['read']) + token('olga', ROOT, ['read', 'write', 'admin']));
  const open = service.api.bind(service);
  service.api = (path, body, more) => open(path, body, { token: ROOT, ...more });
  await seed(service);
});
test.afterAll(() => service?.stop());

async function signIn(page, secret) {
  await page.goto(`${service.url}/console/`);
  await page.getByLabel('Token').fill(secret);
  await page.getByRole('button', { name: 'Sign in' }).click();
}

test('nothing is seen without a token, and a wrong one is refused', async ({ browser }) => {
  const context = await browser.newContext({ bypassCSP: true });
  const page = await context.newPage();
  // A header cannot hold it, and a tab that kept it could send nothing any more.
  await signIn(page, 'copied “with quotes”');
  await expect(page.getByRole('alert')).toContainText('visible ASCII');
  expect(await page.evaluate(() => sessionStorage.length)).toBe(0);
  await signIn(page, 'made-up');
  await expect(page.getByRole('alert')).toContainText('not known');
  await expect(page.getByRole('navigation')).toHaveCount(0);
  const { violations } = await new AxeBuilder({ page }).analyze();
  expect(violations.map((v) => v.id)).toEqual([]);
  await context.close();
});

test('a reader sees streams and is told which role the rest needs', async ({ page }) => {
  const urls = [];
  page.on('request', (r) => urls.push(r.url()));
  const refused = [];
  page.on('response', (r) => { if (r.status() === 403) refused.push(r.url()); });
  await signIn(page, READER);
  await expect(page.getByText('rita', { exact: true })).toBeVisible();
  await expect(page.getByText('Who leads')).toBeVisible();
  await expect(page.getByText('rita has read')).toBeVisible();
  await page.getByRole('link', { name: 'Switch' }).click();
  await expect(page.getByRole('button', { name: 'Switch…' })).toBeDisabled();
  await expect(page.getByText('rita lacks the role “admin”').first()).toBeVisible();
  const pages = await page.getByRole('navigation').getByRole('link').all();
  expect(pages.length).toBeGreaterThan(10);
  for (const link of pages) {
    const asked = page.waitForResponse((r) => r.url().endsWith('/health'));
    await link.click();
    // What a page asks for goes out with the next look at all.
    await asked;
  }
  await page.getByRole('link', { name: 'Streams', exact: true }).click();
  await page.getByRole('link', { name: 'films', exact: true }).click();
  await page.getByRole('link', { name: 'Movie', exact: true }).click();
  await page.getByRole('link', { name: 'metropolis', exact: true }).click();
  await expect(page.getByText('This is the present')).toBeVisible();
  // Nothing was asked for that would have been refused: the audit trail is for people who try.
  expect(refused).toEqual([]);
  // The token is in the tab and in headers, and nowhere else.
  for (const url of [...urls, page.url()]) expect(url).not.toContain(READER);
  const kept = await page.evaluate(() => [Object.values(sessionStorage).join(), Object.keys(localStorage).length, document.cookie]);
  expect(kept).toEqual([READER, 0, '']);
  // And the service would refuse whoever pressed all the same.
  const order = { mode: 'dual_write', reason: 'not mine', dry_run: true };
  await expect(service.api('/admin/migration/mode', order, { token: READER })).rejects.toThrow(/403/);
  await page.getByRole('button', { name: 'Sign out' }).click();
  await expect(page.getByLabel('Token')).toBeVisible();
  expect(await page.evaluate(() => sessionStorage.length)).toBe(0);
});

test('an administrator sees and may press everything, and is named in what is recorded', async ({ page }) => {
  await signIn(page, ROOT);
  await expect(page.getByText('olga', { exact: true })).toBeVisible();
  await page.getByRole('link', { name: 'Switch' }).click();
  await page.getByRole('radio', { name: 'dual_write/postgres' }).check();
  await page.getByRole('button', { name: 'Dry run' }).click();
  await expect(page.getByText('It may begin.')).toBeVisible();
  await page.getByRole('link', { name: 'Audit' }).click();
  await expect(page.getByRole('row').filter({ hasText: 'migration/mode' }).first()).toContainText('olga');
});
