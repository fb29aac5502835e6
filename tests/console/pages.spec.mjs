// Every page: it loads, says nothing on the browser's console, has no violation that axe knows of, in light and dark,
// fits a phone, and takes nothing of anybody's data for markup.
import AxeBuilder from '@axe-core/playwright';
import { expect, test } from '@playwright/test';
import { HOSTILE, Service, pages, seed } from './service.mjs';

let service;
let all;

test.beforeAll(async () => {
  service = await Service.start('[chaos]\nenabled = true\n');
  await seed(service);
  all = await pages(service);
});
test.afterAll(() => service?.stop());

/** Shows a page, and waits until it has asked what it shows. */
async function show(page, name) {
  await page.goto(`${service.url}/console/#/${name}`);
  await expect(page.locator('main h1')).toBeVisible();
  await expect(page.locator('#status b')).toHaveText(/Well/);
  await expect(page.getByText('Asking…')).toHaveCount(0);
}

test('every page loads and nothing is said on the console', async ({ page }) => {
  const said = [];
  page.on('console', (m) => { if (['error', 'warning'].includes(m.type())) said.push(`${page.url()}: ${m.text()}`); });
  page.on('pageerror', (e) => said.push(`${page.url()}: ${e.message}`));
  const elsewhere = [];
  page.on('request', (r) => { if (!r.url().startsWith(service.url) && !r.url().startsWith('data:')) elsewhere.push(r.url()); });
  for (const name of all) {
    await show(page, name);
    await expect(page.locator('main [role="alert"]')).toHaveCount(0);
    // Jobs that were never started are answered 404, which a browser reports.
    said.splice(0, said.length, ...said.filter((s) => !(name === 'jobs' && s.includes('404'))));
  }
  expect(said).toEqual([]);
  expect(elsewhere).toEqual([]);
});

test('what users wrote is shown as text and never runs', async ({ page }) => {
  for (const name of all) await show(page, name);
  await show(page, 'streams/films/Movie');
  await page.getByRole('link', { name: HOSTILE, exact: true }).click();
  await expect(page.locator('main h1')).toContainText(HOSTILE);
  await expect(page.locator('main pre').first()).toContainText('<script>window.harmed=1</script>');
  await show(page, 'actors');
  await show(page, 'feed');
  await expect(page.locator('main table')).toContainText('InstanceCreated');
  expect(await page.evaluate(() => window.harmed)).toBeUndefined();
  expect(await page.locator('img[src="x"]').count()).toBe(0);
  const links = await page.locator('a').evaluateAll((list) => list.map((a) => a.href));
  for (const link of links) expect(link.startsWith(service.url)).toBe(true);
});

for (const colorScheme of ['light', 'dark']) {
  test(`axe finds nothing on any page, ${colorScheme}`, async ({ browser }) => {
    // The check is a script of its own, which the policy would keep out.
    const context = await browser.newContext({ colorScheme, bypassCSP: true });
    const page = await context.newPage();
    const found = [];
    const look = async (name) => {
      const { violations } = await new AxeBuilder({ page }).withTags(['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']).analyze();
      found.push(...violations.flatMap((v) => v.nodes.map((n) => `${name}: ${v.id}: ${n.target} ${n.failureSummary}`)));
    };
    for (const name of all) {
      await show(page, name);
      await look(name);
    }
    await show(page, 'switch/dual_write/postgres');
    await page.getByRole('button', { name: 'Dry run' }).click();
    await page.getByRole('button', { name: 'Switch…' }).click();
    await expect(page.getByRole('dialog')).toBeVisible();
    await look('dialog');
    await context.close();
    expect(found).toEqual([]);
  });
}

test('a phone shows every page without scrolling sideways', async ({ browser }) => {
  const context = await browser.newContext({ viewport: { width: 390, height: 800 }, reducedMotion: 'reduce' });
  const page = await context.newPage();
  for (const name of all) {
    await show(page, name);
    const wide = await page.evaluate(() => document.scrollingElement.scrollWidth - innerWidth);
    expect(wide, name).toBeLessThanOrEqual(0);
  }
  await context.close();
});

test('everything can be reached with the keyboard', async ({ page }) => {
  await show(page, 'overview');
  await page.locator('body').focus();
  await page.keyboard.press('Tab');
  await expect(page.locator('.skip')).toBeFocused();
  await page.keyboard.press('Enter');
  await expect(page.locator('main')).toBeFocused();
  await show(page, 'switch/dual_write/postgres');
  await page.getByRole('button', { name: 'Dry run' }).press('Enter');
  const order = page.getByRole('button', { name: 'Switch…' });
  await order.press('Enter');
  await expect(page.getByRole('dialog')).toBeVisible();
  expect(await page.evaluate(() => document.querySelector('dialog').contains(document.activeElement))).toBe(true);
  await page.keyboard.press('Escape');
  await expect(page.getByRole('dialog')).toHaveCount(0);
  await expect(order).toBeFocused();
});

test('an open console asks little, and nothing while nobody sees it', async ({ page }) => {
  await show(page, 'overview');
  let asked = 0;
  page.on('request', (r) => { if (r.url().includes('/api/') || r.url().includes('/health')) asked += 1; });
  await page.waitForTimeout(10_000);
  // Two every two seconds; the charts every five, the history every fifteen.
  expect(asked).toBeGreaterThanOrEqual(8);
  expect(asked).toBeLessThanOrEqual(15);
  await page.evaluate(() => {
    Object.defineProperty(document, 'hidden', { get: () => window.unseen ?? true, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  });
  await page.waitForTimeout(1_000);
  asked = 0;
  await page.waitForTimeout(5_000);
  expect(asked).toBe(0);
  await page.evaluate(() => {
    window.unseen = false;
    document.dispatchEvent(new Event('visibilitychange'));
  });
  await expect.poll(() => asked).toBeGreaterThanOrEqual(2);
});
